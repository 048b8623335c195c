// A waypoint as small as can be, on Node's own HTTP/2 and TLS, so that another stack than ours speaks
// HBONE with the ztunnels: takes CONNECT with its own certificate and opens a tunnel to the chosen pod.
//   mesh-waypoint-server.ts --ca=host:port --root=FILE --token=FILE --account=NS/SA --route=ADDRESS=POD …
// Prints one JSON line per CONNECT: {authority, peer, forwarded, to}. A route to "silence" is never answered.
import { readFile } from "node:fs/promises";
import {
  connect,
  createSecureServer,
  type ClientHttp2Session,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { parseArgs } from "node:util";
import { obtainCertificate } from "./mesh-certificate.ts";

const { values } = parseArgs({
  options: {
    ca: { type: "string", default: "" },
    root: { type: "string", default: "" },
    token: { type: "string", default: "" },
    account: { type: "string", default: "" },
    route: { type: "string", multiple: true, default: [] },
  },
});
const routes = new Map(values.route.map((r) => r.split("=", 2) as [string, string]));

const tls = await obtainCertificate({
  ca: values.ca,
  account: values.account,
  root: () => readFile(values.root),
  token: () => readFile(values.token, "utf8"),
});

/** A tunnel of our own to the pod, one per connection: this is no benchmark. */
function tunnelTo(address: string): ClientHttp2Session {
  const host = address.slice(0, address.lastIndexOf(":")).replace(/^\[|\]$/g, "");
  const socket = connectTls({ ...tls, host, port: 15_008, checkServerIdentity: () => undefined });
  return connect(`https://${address}`, { createConnection: () => socket });
}

const server = createSecureServer({ ...tls, requestCert: true, rejectUnauthorized: true });
server.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
  const authority = String(headers[":authority"]);
  const to = routes.get(authority) ?? authority;
  const socket = stream.session?.socket as TLSSocket | undefined;
  const peer = socket?.getPeerCertificate().subjectaltname ?? "";
  const { forwarded } = headers;
  process.stdout.write(`${JSON.stringify({ authority, peer, forwarded, to })}\n`);
  stream.on("error", () => {});
  if (to === "silence") return;
  const session = tunnelTo(to);
  const end = (): void => {
    session.destroy();
    stream.destroy();
  };
  session.on("error", end);
  stream.on("error", end);
  const onward = session.request({ ":method": "CONNECT", ":authority": to });
  onward.on("error", end);
  onward.on("response", (answer) => {
    stream.respond({ ":status": answer[":status"] ?? 503 });
    stream.pipe(onward).pipe(stream);
  });
  onward.on("close", () => session.close());
});
server.on("sessionError", () => {});
server.on("tlsClientError", () => {});
server.listen(15_008, "::", () => process.stdout.write("listening\n"));
