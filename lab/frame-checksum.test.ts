import assert from "node:assert/strict";
import { test } from "node:test";
import { completeChecksum } from "./frame-checksum.ts";

/** One's complement sum over a pseudo header and segment; 0xffff when the checksum is right. */
function verify(addresses: Buffer, protocol: number, segment: Buffer): number {
  const odd = segment.length % 2 === 1 ? [Buffer.alloc(1)] : [];
  const tail = Buffer.from([0, protocol, segment.length >> 8, segment.length & 255]);
  const all = Buffer.concat([addresses, tail, segment, ...odd]);
  let sum = 0;
  for (let i = 0; i < all.length; i += 2) sum += all.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

const ADDRESSES = { 4: Buffer.from("0a0000010a000002", "hex"), 6: Buffer.alloc(32, 0xfd) };

function frameOf(version: 4 | 6, protocol: number, segment: Buffer): Buffer {
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(version === 4 ? 0x0800 : 0x86dd, 12);
  const ip = Buffer.alloc(version === 4 ? 12 : 8);
  ip[0] = version === 4 ? 0x45 : 0x60;
  ip.writeUInt16BE(version === 4 ? 20 + segment.length : segment.length, version === 4 ? 2 : 4);
  ip[version === 4 ? 9 : 6] = protocol;
  return Buffer.concat([ethernet, ip, ADDRESSES[version], segment]);
}

for (const version of [4, 6] as const)
  for (const { name, protocol, header } of [
    { name: "TCP", protocol: 6, header: 20 },
    { name: "UDP", protocol: 17, header: 8 },
  ])
    for (const payload of ["", "odd", "even"])
      test(`checksum: ${name} over IPv${version}, payload "${payload}"`, () => {
        const segment = Buffer.concat([Buffer.alloc(header, 7), Buffer.from(payload)]);
        const frame = frameOf(version, protocol, segment);
        completeChecksum(frame);
        const done = frame.subarray(frame.length - segment.length);
        assert.equal(verify(ADDRESSES[version], protocol, done), 0xffff);
      });

test("checksum: other protocols, fragments and short frames stay as they are", () => {
  const icmp = frameOf(4, 1, Buffer.from("08000102030405", "hex"));
  const fragment = frameOf(4, 6, Buffer.alloc(20, 1));
  fragment.writeUInt16BE(0x2000, 20);
  for (const frame of [icmp, fragment, Buffer.alloc(20)]) {
    const before = Buffer.from(frame);
    completeChecksum(frame);
    assert.deepEqual(frame, before);
  }
});
