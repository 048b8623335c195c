// Addresses, ranges and identities: text that reaches us from every side.
import assert from "node:assert/strict";
import { cidrContains, cidrFromIp, formatCidr, parseCidr } from "#lib/net/cidr.ts";
import {
  AddressError,
  formatSocketAddr,
  ipFromBytes,
  ipToBytes,
  tryParseIp,
  tryParseSocketAddr,
} from "#lib/net/ip.ts";
import { spiffeId, spiffeParts, tryParseSpiffeId } from "#lib/net/spiffe.ts";
import type { FuzzTarget } from "../target.ts";
import { utf8 } from "../target.ts";

export const target: FuzzTarget = {
  name: "addresses",
  corpus: utf8(
    "10.0.0.1",
    "fd00::1",
    "::ffff:10.0.0.1",
    "10.0.0.1:80",
    "[fd00::1]:80",
    "10.0.0.0/8",
    "fd00::/8",
    "::/0",
    "spiffe://cluster.local/ns/default/sa/echo",
  ),
  words: ["::", ":", "/", ".", "[", "]", "0x", "spiffe://", "/ns/", "/sa/", "%eth0", "ffff"],
  refusals: [AddressError],
  run(bytes) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
    const ip = tryParseIp(text);
    if (ip !== null) {
      assert.equal(tryParseIp(ip), ip);
      assert.equal(ipFromBytes(ipToBytes(ip)), ip);
      assert.ok(cidrContains(cidrFromIp(ip), ip));
    }
    const socket = tryParseSocketAddr(text);
    if (socket !== null) assert.deepEqual(tryParseSocketAddr(formatSocketAddr(socket)), socket);
    const id = tryParseSpiffeId(text);
    if (id !== null) assert.equal(spiffeId(spiffeParts(id)), text);
    if (text.includes("/") && id === null) {
      const cidr = parseCidr(text);
      assert.deepEqual(parseCidr(formatCidr(cidr)), cidr);
      return "range";
    }
    return `${ip === null ? "" : "address"} ${socket === null ? "" : "socket"} ${id === null ? "" : "identity"}`;
  },
};
