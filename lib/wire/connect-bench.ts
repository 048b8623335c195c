// What the codecs of one CONNECT cost: `node lib/wire/connect-bench.ts`. Prints nanoseconds per call.
import { parseIp } from "../net/ip.ts";
import {
  formatForwarded,
  parseAuthority,
  parseBaggage,
  parseForwardedHost,
} from "./connect-headers.ts";
import { ConnectRequestFields } from "./connect-message.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";
import type { HeaderList } from "./hpack-encoder.ts";
import { newTraceparent, seededRandom } from "./traceparent.ts";

const CALLS = 300_000;
const LIMITS = { maxListBytes: 65_536 };
const HOST = "echo.default.svc.cluster.local";
const BAGGAGE =
  "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=echo-v1,service.name=echo,service.version=v1";

const random = seededRandom([1, 2, 3, 4]);
const ip = parseIp("10.0.3.5");
let port = 30_000;

function request(): HeaderList {
  port = port === 60_000 ? 30_000 : port + 1;
  return [
    [":method", "CONNECT"],
    [":authority", "10.0.3.7:8080"],
    ["baggage", BAGGAGE],
    ["forwarded", formatForwarded({ ip, port }, HOST)],
    ["traceparent", newTraceparent(random)],
  ];
}

const lists = Array.from({ length: 1000 }, request);
const encoder = new HpackEncoder();
const fields = new ConnectRequestFields();
const out = Buffer.alloc(4096);
/** The first block fills the decoder's table; every later one looks like this. */
const decoder = new HpackDecoder();
decoder.decode(out, 0, encoder.encode(lists[0]!, out, 0), LIMITS, fields.onHeader);
const warm = Buffer.from(out.subarray(0, encoder.encode(lists[1]!, out, 0)));
const forwarded = formatForwarded({ ip, port }, HOST);

measure("encode", (i) => encoder.encode(lists[i % lists.length]!, out, 0));
measure("decode and check", () => {
  fields.reset();
  decoder.decode(warm, 0, warm.length, LIMITS, fields.onHeader);
  return fields.kind;
});
measure("make the headers", request);
measure("parse the authority", () => parseAuthority("10.0.3.7:8080"));
measure("parse the baggage", () => parseBaggage(BAGGAGE));
measure("parse the forwarded host", () => parseForwardedHost(forwarded));
console.log(`a warm request has ${warm.length} octets`);

function measure(name: string, body: (i: number) => unknown): void {
  let sink: unknown; // keeps results alive, so that no call is optimised away
  for (let i = 0; i < CALLS / 5; i++) sink = body(i);
  const start = performance.now();
  for (let i = 0; i < CALLS; i++) sink = body(i);
  const ns = ((performance.now() - start) * 1e6) / CALLS;
  console.log(`${name.padEnd(26)} ${ns.toFixed(0).padStart(6)} ns  (${typeof sink})`);
}
