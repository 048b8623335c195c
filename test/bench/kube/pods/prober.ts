// In a pod: `HOST PORT EVERY_MS HELD`. Opens connections one after the other, keeps the first few, and says when
// the next one was refused or let in again, and when all of those kept were held or closed.
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const TIMEOUT_MS = 2_000;
const [host = "", port = "", everyMs = "", held = ""] = process.argv.slice(1);
const kept = new Set<Socket>();
let isLetIn: boolean | null = null;

function say(event: "let-in" | "refused" | "held" | "closed", at: number): void {
  process.stdout.write(`${JSON.stringify({ event, at })}\n`);
}

/** Resolves with a connection over which an answer came, or null. */
function open(): Promise<Socket | null> {
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), noDelay: true });
    const timer = setTimeout(() => socket.destroy(), TIMEOUT_MS);
    socket.on("error", () => {});
    socket.once("connect", () => socket.write("probe\n"));
    socket.once("data", () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.once("close", () => {
      clearTimeout(timer);
      resolve(null);
    });
  });
}

function keep(socket: Socket): void {
  kept.add(socket);
  if (kept.size === Number(held)) say("held", Date.now());
  socket.once("close", () => {
    kept.delete(socket);
    if (kept.size === 0) say("closed", Date.now());
  });
}

for (;;) {
  const at = Date.now();
  const socket = await open();
  // The time of the first attempt that fared otherwise than the one before.
  if ((socket !== null) !== isLetIn) {
    isLetIn = socket !== null;
    say(isLetIn ? "let-in" : "refused", at);
  }
  if (socket !== null && !socket.destroyed && kept.size < Number(held)) keep(socket);
  else socket?.destroy();
  await sleep(Math.max(0, at + Number(everyMs) - Date.now()));
}
