// HTTP server: answers every request with JSON about itself and the client it sees.
//   http-server.ts [--port=8080] [--name=http] [--body-bytes=0]
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    name: { type: "string", default: "http" },
    "body-bytes": { type: "string", default: "0" },
  },
});
const padding = "x".repeat(Number(values["body-bytes"]));

createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    const client = (request.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    const { method, url, headers } = request;
    const body = {
      server: values.name,
      client,
      method,
      url,
      headers,
      ...(padding === "" ? {} : { padding }),
    };
    response.setHeader("content-type", "application/json");
    response.end(`${JSON.stringify(body)}\n`);
  });
}).listen(Number(values.port), "::", () => {
  process.stdout.write(`listening on ${values.port}\n`);
});
