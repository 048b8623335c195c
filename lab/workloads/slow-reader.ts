// TCP client that asks a raw echo server for ever more and never reads: what it sent must not pile up
// anywhere without bound. Prints {sent} once a second.
//   slow-reader.ts --host=server --port=80
import { connect } from "node:net";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8080" },
  },
});
const chunk = Buffer.alloc(64 * 1024, "s");
const socket = connect({ host: values.host, port: Number(values.port) });
let sent = 0;

function push(): void {
  while (socket.write(chunk)) sent += chunk.length;
  sent += chunk.length;
}

socket.pause();
socket.once("connect", push);
socket.on("drain", push);
socket.on("error", (error) => {
  process.stdout.write(`${JSON.stringify({ error: error.message })}\n`);
  process.exit(1);
});
setInterval(() => process.stdout.write(`${JSON.stringify({ sent })}\n`), 1_000);
