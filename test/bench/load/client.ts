// The load on a path, one thread on epoll. Prints one line of JSON, a LoadResult, and ends.
// `bulk` prints "lost" for each stream that ends early.
//   client.ts bulk|http|echo|connect|hold|first --host=IP --port=N [--connections=1] [--seconds=2] [--size=1]
// `hold` opens the connections, prints the result, then waits: "closed" with the time when the last of them ended.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { parseIp } from "#lib/net/ip.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { runBulk } from "./bulk.ts";
import { Connects } from "./connects.ts";
import { Exchanges } from "./exchanges.ts";
import { ECHO, HTTP, REQUEST, RESPONSE } from "./protocol.ts";

const RETRY_MS = 5;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8080" },
    connections: { type: "string", default: "1" },
    seconds: { type: "string", default: "2" },
    size: { type: "string", default: "1" },
  },
});
const target = { ip: parseIp(values.host), port: Number(values.port) };
const connections = Number(values.connections);
const ms = Number(values.seconds) * 1_000;
const size = Number(values.size);
raiseOpenFiles();

switch (positionals[0] ?? "") {
  case "bulk":
    runBulk(target, connections, ms, () => console.log("lost"));
    break;
  case "http":
    print(new Exchanges(target, connections, HTTP, REQUEST, RESPONSE.length).run(ms));
    break;
  case "echo":
    print(new Exchanges(target, connections, ECHO, Buffer.alloc(size, "e"), size).run(ms));
    break;
  case "connect":
    print(new Connects(target, { inFlight: connections }).run(ms));
    break;
  case "hold": {
    const held = new Connects(target, { inFlight: 32, keep: connections });
    print(held.run(ms));
    if (held.open > 0) held.waitClosed();
    console.log(JSON.stringify({ closed: performance.timeOrigin + performance.now() }));
    break;
  }
  case "first":
    await first();
    break;
  default:
    throw new Error(`No such load: ${positionals[0]}`);
}

/** Tries until one byte has come back. */
async function first(): Promise<void> {
  const deadline = Date.now() + ms;
  for (let failures = 0; Date.now() < deadline; failures++) {
    const one = new Connects(target, { inFlight: 1, keep: 1 });
    one.run(deadline - Date.now());
    if (one.open === 1)
      return print({ firstByteAt: performance.timeOrigin + performance.now(), failures });
    await sleep(RETRY_MS);
  }
}

function print(result: object): void {
  console.log(JSON.stringify(result));
}
