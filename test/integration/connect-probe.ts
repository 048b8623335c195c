// Asks an HBONE server for authorities, one CONNECT after the other in one tunnel, and prints `{authority: status}`.
//   connect-probe.ts --ca=host:port --root=FILE --token=FILE --account=NS/SA --to=IP AUTHORITY …
import { readFile } from "node:fs/promises";
import { connect } from "node:http2";
import { connect as connectTls } from "node:tls";
import { parseArgs } from "node:util";
import { obtainCertificate } from "./mesh-certificate.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ca: { type: "string", default: "" },
    root: { type: "string", default: "" },
    token: { type: "string", default: "" },
    account: { type: "string", default: "" },
    to: { type: "string", default: "" },
  },
});
const tls = await obtainCertificate({
  ca: values.ca,
  account: values.account,
  root: () => readFile(values.root),
  token: () => readFile(values.token, "utf8"),
});
const socket = connectTls({
  ...tls,
  host: values.to,
  port: 15_008,
  checkServerIdentity: () => undefined,
});
const session = connect("https://peer", { createConnection: () => socket });
const answers: Record<string, number> = {};
for (const authority of positionals)
  answers[authority] = await new Promise<number>((resolve) => {
    const stream = session.request({ ":method": "CONNECT", ":authority": authority });
    stream.on("response", (headers) => {
      resolve(headers[":status"] ?? 0);
      stream.close();
    });
    stream.on("error", () => resolve(0));
  });
session.destroy();
process.stdout.write(`${JSON.stringify(answers)}\n`);
