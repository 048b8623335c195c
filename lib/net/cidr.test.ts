import assert from "node:assert/strict";
import { test } from "node:test";
import { cidrContains, cidrFromBytes, cidrFromIp, formatCidr, parseCidr } from "./cidr.ts";
import { AddressError, parseIp } from "./ip.ts";

for (const c of [
  { cidr: "10.0.0.0/8", ip: "10.255.255.255", want: true },
  { cidr: "10.0.0.0/8", ip: "11.0.0.0", want: false },
  { cidr: "10.0.1.5/24", ip: "10.0.1.200", want: true },
  { cidr: "10.0.1.128/25", ip: "10.0.1.127", want: false },
  { cidr: "10.0.1.128/25", ip: "10.0.1.128", want: true },
  { cidr: "10.0.0.0/15", ip: "10.1.0.1", want: true },
  { cidr: "10.0.0.0/15", ip: "10.2.0.1", want: false },
  { cidr: "0.0.0.0/0", ip: "192.0.2.1", want: true },
  { cidr: "0.0.0.0/0", ip: "::1", want: false },
  { cidr: "::/0", ip: "10.0.0.1", want: false },
  { cidr: "::/0", ip: "fd00::1", want: true },
  { cidr: "fd00:2::/33", ip: "fd00:2:7fff::1", want: true },
  { cidr: "fd00:2::/33", ip: "fd00:2:8000::1", want: false },
  { cidr: "10.0.2.4", ip: "10.0.2.4", want: true },
  { cidr: "10.0.2.4/32", ip: "10.0.2.5", want: false },
  { cidr: "fd00::1/128", ip: "fd00::1", want: true },
])
  test(`${c.cidr} ${c.want ? "contains" : "does not contain"} ${c.ip}`, () => {
    assert.equal(cidrContains(parseCidr(c.cidr), parseIp(c.ip)), c.want);
  });

test("host bits are cleared, text is canonical", () => {
  assert.equal(formatCidr(parseCidr("10.97.3.4/16")), "10.97.0.0/16");
  assert.equal(formatCidr(parseCidr("FD00:0::7/64")), "fd00::/64");
  assert.equal(formatCidr(cidrFromIp(parseIp("10.0.0.1"))), "10.0.0.1/32");
});

for (const text of [
  "10.0.0.0/33",
  "fd00::/129",
  "10.0.0.0/",
  "10.0.0.0/-1",
  "10.0.0.0/8/8",
  "10.0.0.0/ 8",
  "x/8",
  "",
])
  test(`refuses ${JSON.stringify(text)}`, () => {
    assert.throws(() => parseCidr(text), AddressError);
  });

test("bytes of another length are refused, and the caller's bytes stay as they are", () => {
  assert.throws(() => cidrFromBytes(new Uint8Array(5), 8), AddressError);
  const bytes = Uint8Array.of(10, 1, 2, 3);
  cidrFromBytes(bytes, 8);
  assert.deepEqual(bytes, Uint8Array.of(10, 1, 2, 3));
});
