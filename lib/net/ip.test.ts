import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AddressError,
  formatSocketAddr,
  ipFromBytes,
  ipToBytes,
  isIpv6,
  isLoopback,
  parseIp,
  tryParseIp,
  tryParseSocketAddr,
} from "./ip.ts";

for (const c of [
  { text: "10.0.3.7", want: "10.0.3.7" },
  { text: "0.0.0.0", want: "0.0.0.0" },
  { text: "FD00:0:0:0::7", want: "fd00::7" },
  { text: "::", want: "::" },
  { text: "::1", want: "::1" },
  { text: "2001:db8:0:1:1:1:1:1", want: "2001:db8:0:1:1:1:1:1" },
  { text: "1:0:0:2:0:0:0:3", want: "1:0:0:2::3" },
  { text: "::ffff:10.0.3.7", want: "10.0.3.7" },
  { text: "::ffff:a00:307", want: "10.0.3.7" },
  { text: "", want: null },
  { text: "10.0.3", want: null },
  { text: "10.0.3.256", want: null },
  { text: "010.0.3.7", want: null },
  { text: "0x0a.0.3.7", want: null },
  { text: "167773959", want: null },
  { text: "10.0.3.7 ", want: null },
  { text: "fe80::1%eth0", want: null },
  { text: "fd00:::7", want: null },
  { text: "[fd00::7]", want: null },
  { text: "example.com", want: null },
])
  test(`parse ${JSON.stringify(c.text)}`, () => {
    assert.equal(tryParseIp(c.text), c.want);
    if (c.want === null) assert.throws(() => parseIp(c.text), AddressError);
    else assert.equal(parseIp(c.text), c.want);
  });

test("bytes and text agree both ways", () => {
  for (const hex of ["0a000307", "00000000", "ffffffff", "fd000000000000000000000000000007"]) {
    const bytes = Buffer.from(hex, "hex");
    assert.deepEqual(Buffer.from(ipToBytes(ipFromBytes(bytes))).toString("hex"), hex);
  }
  assert.equal(ipFromBytes(Buffer.from("00000000000000000000ffff0a000307", "hex")), "10.0.3.7");
  for (const length of [0, 3, 5, 15, 17])
    assert.throws(() => ipFromBytes(new Uint8Array(length)), AddressError);
});

test("parsing canonical text changes nothing", () => {
  let seed = 11;
  const byte = () => (seed = (seed * 48_271) % 2_147_483_647) & 0xff;
  for (let i = 0; i < 500; i++) {
    const bytes = Uint8Array.from({ length: i % 2 === 0 ? 4 : 16 }, () =>
      i % 5 === 0 ? byte() & 1 : byte(),
    );
    const ip = ipFromBytes(bytes);
    assert.equal(parseIp(ip), ip);
    if (bytes.length === 4) assert.deepEqual(ipToBytes(ip), bytes);
  }
});

test("families and loopback", () => {
  assert.deepEqual(
    ["10.0.0.1", "::1"].map((t) => isIpv6(parseIp(t))),
    [false, true],
  );
  const loopback = ["127.0.0.1", "127.9.9.9", "::1", "128.0.0.1", "::2", "::ffff:127.0.0.1"];
  assert.deepEqual(
    loopback.map((t) => isLoopback(parseIp(t))),
    [true, true, true, false, false, true],
  );
});

for (const c of [
  { text: "10.0.3.7:8080", want: "10.0.3.7:8080" },
  { text: "[fd00::7]:8080", want: "[fd00::7]:8080" },
  { text: "[FD00:0::7]:0", want: "[fd00::7]:0" },
  { text: "[::ffff:10.0.3.7]:80", want: "10.0.3.7:80" },
  { text: "10.0.3.7:65535", want: "10.0.3.7:65535" },
  { text: "10.0.3.7:65536", want: null },
  { text: "10.0.3.7:", want: null },
  { text: "10.0.3.7", want: null },
  { text: ":80", want: null },
  { text: "[10.0.3.7]:80", want: null },
  { text: "fd00::7:8080", want: null },
  { text: "[fd00::7]", want: null },
  { text: "[fe80::1%eth0]:80", want: null },
  { text: "10.0.3.7:+80", want: null },
  { text: "10.0.3.7:80 ", want: null },
  { text: "example.com:80", want: null },
])
  test(`socket address ${JSON.stringify(c.text)}`, () => {
    const addr = tryParseSocketAddr(c.text);
    assert.equal(addr === null ? null : formatSocketAddr(addr), c.want);
  });
