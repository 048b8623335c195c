import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseResolvConf, resolvConfReader } from "./resolv-conf.ts";

for (const c of [
  { text: "", want: { servers: [], timeoutMs: 5_000, attempts: 2 } },
  {
    text: "# made by hand\nsearch shop.svc.cluster.local\nnameserver 10.96.0.10 # kube-dns\n\toptions ndots:5 timeout:1 attempts:9\n",
    want: { servers: [{ ip: "10.96.0.10", port: 53 }], timeoutMs: 1_000, attempts: 5 },
  },
  {
    text: "nameserver fd00::a\nnameserver bogus\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3",
    want: {
      servers: ["fd00::a", "1.1.1.1", "2.2.2.2"].map((ip) => ({ ip, port: 53 })),
      timeoutMs: 5_000,
      attempts: 2,
    },
  },
])
  test(`resolv.conf: ${JSON.stringify(c.text.slice(0, 30))}`, () =>
    assert.deepEqual(parseResolvConf(c.text), c.want));

test("a changed file is noticed, a missing one means no servers", () => {
  const dir = mkdtempSync(join(tmpdir(), "resolv-"));
  const path = join(dir, "resolv.conf");
  let now = 0;
  const read = resolvConfReader(path, () => now);
  assert.deepEqual(read().servers, []);
  writeFileSync(path, "nameserver 10.0.0.1\n");
  assert.deepEqual(read().servers, [], "not looked at again at once");
  now += 6_000;
  assert.equal(read().servers[0]?.ip, "10.0.0.1");
  writeFileSync(path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n");
  now += 6_000;
  assert.equal(read().servers.length, 2);
  rmSync(dir, { recursive: true });
  now += 6_000;
  assert.deepEqual(read().servers, []);
});
