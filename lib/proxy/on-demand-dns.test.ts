import assert from "node:assert/strict";
import { test } from "node:test";
import { OnDemandDns, type OnDemandOptions } from "./on-demand-dns.ts";

type Resolver = NonNullable<OnDemandOptions["resolver"]>;

function setup(
  records: { readonly a?: readonly string[]; readonly aaaa?: readonly string[] },
  ipv6Enabled = true,
): { readonly dns: OnDemandDns; readonly asked: string[] } {
  const asked: string[] = [];
  const answer = async (type: string, name: string, addresses: readonly string[] = []) => {
    asked.push(`${type} ${name}`);
    if (addresses.length === 0) throw Object.assign(new Error("no data"), { code: "ENODATA" });
    return addresses.map((address) => ({ address, ttl: 60 }));
  };
  const resolver = {
    resolve4: (name: string) => answer("A", name, records.a),
    resolve6: (name: string) => answer("AAAA", name, records.aaaa),
  } as unknown as Resolver;
  return { dns: new OnDemandDns({ ipv6Enabled, random: () => 0.999, resolver }), asked };
}

for (const c of [
  {
    name: "preferred family",
    a: ["192.0.2.1", "192.0.2.2"],
    aaaa: ["2001:db8::1"],
    want: ["192.0.2.2", "2001:db8::1"],
  },
  { name: "the other family", a: ["192.0.2.1"], aaaa: [], want: ["192.0.2.1", "192.0.2.1"] },
  { name: "nothing", a: [], aaaa: [], want: [null, null] },
])
  test(`on-demand dns: ${c.name}`, async () => {
    const { dns } = setup(c);
    assert.deepEqual(
      [await dns.lookup("db.example", "ipv4"), await dns.lookup("db.example", "ipv6")],
      c.want,
    );
  });

test("callers at once share a lookup, and the answer is kept", async () => {
  const { dns, asked } = setup({ a: ["192.0.2.1"] });
  await Promise.all([dns.lookup("db.example", "ipv4"), dns.lookup("db.example", "ipv6")]);
  await dns.lookup("db.example", "ipv4");
  assert.deepEqual(asked, ["A db.example", "AAAA db.example"]);
});

test("without IPv6 only A is asked for", async () => {
  const { dns, asked } = setup({ a: ["192.0.2.1"], aaaa: ["2001:db8::1"] }, false);
  assert.equal(await dns.lookup("db.example", "ipv6"), "192.0.2.1");
  assert.deepEqual(asked, ["A db.example"]);
});
