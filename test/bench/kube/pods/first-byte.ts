// In a pod: `HOST PORT TEXT`. Says when the first answer came and which attempt that was, then only waits.
import { connect } from "node:net";

const AGAIN_MS = 10;
const [host = "", port = "", text = ""] = process.argv.slice(1);
let attempts = 0;
let isOver = false;

function attempt(): void {
  attempts++;
  const socket = connect({ host, port: Number(port), noDelay: true });
  socket.on("error", () => {});
  socket.once("connect", () => socket.write(`${text}\n`));
  socket.once("data", () => {
    process.stdout.write(`${JSON.stringify({ firstByteAt: Date.now(), attempts })}\n`);
    isOver = true;
    socket.destroy();
  });
  socket.once("close", () => void (isOver || setTimeout(attempt, AGAIN_MS)));
}

attempt();
setInterval(() => {}, 60_000);
