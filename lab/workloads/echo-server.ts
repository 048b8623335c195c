// TCP server: answers each line with "<server name> <client address> <line>", or with --raw every byte as is.
//   echo-server.ts [--port=8080] [--name=echo] [--raw]
import { createServer } from "node:net";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    name: { type: "string", default: "echo" },
    raw: { type: "boolean", default: false },
  },
});

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on("error", () => {}); // clients may reset
  if (values.raw) {
    socket.pipe(socket);
    return;
  }
  const client = (socket.remoteAddress ?? "").replace(/^::ffff:/, "");
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) socket.write(`${values.name} ${client} ${line}\n`);
  });
  socket.on("end", () => socket.end());
});
server.listen(Number(values.port), "::", () => {
  process.stdout.write(`listening on ${values.port}\n`);
});
