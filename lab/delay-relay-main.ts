// The relay process: receives VXLAN packets (RFC 7348), waits, and returns them under the partner's
// identifier (2N ⇄ 2N+1). Settings come as JSON lines on standard input.
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";
import { completeChecksum } from "./frame-checksum.ts";

/** VXLAN header: flags u8, reserved 3, identifier u24, reserved u8. */
const HEADER = 8;
/** Packets held at once; more are dropped, as a full queue would. */
const MAX_HELD = 100_000;

interface Setting {
  readonly slot: number;
  readonly delayMs: number;
  readonly jitterMs: number;
}

const settings = new Map<number, Setting>();
/** When the last packet of each direction leaves: jitter must not reorder. */
const lastDue = new Map<number, number>();
let held = 0;

const [ip = "127.0.0.1", portText = "4789"] = process.argv.slice(2);
const port = Number(portText);
const socket = createSocket({ type: "udp4", recvBufferSize: 8 << 20 });
socket.on("message", (message, from) => {
  if (message.length <= HEADER || held >= MAX_HELD) return;
  const id = message.readUIntBE(4, 3);
  const setting = settings.get(id >> 1);
  if (setting === undefined) return;
  message.writeUIntBE(id ^ 1, 4, 3);
  completeChecksum(message.subarray(HEADER));
  const now = performance.now();
  const jitter = setting.jitterMs * (2 * Math.random() - 1);
  const due = Math.max(now + setting.delayMs + jitter, lastDue.get(id) ?? 0);
  lastDue.set(id, due);
  held++;
  setTimeout(() => {
    held--;
    socket.send(message, port, from.address);
  }, due - now);
});
socket.bind(port, ip, () => {
  process.stdout.write("ready\n");
});
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const setting = JSON.parse(line) as Setting;
    settings.set(setting.slot, setting);
  })
  .on("close", () => process.exit(0));
