import assert from "node:assert/strict";
import { test } from "node:test";
import { flowsOf, parsePcap, pcapHeader, pcapRecord } from "./pcap.ts";

/** An Ethernet frame with a TCP segment; lengths are filled in. */
function tcpFrame(version: 4 | 6, seq: number, payload: string): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(40_000, 0);
  tcp.writeUInt16BE(80, 2);
  tcp.writeUInt32BE(seq, 4);
  tcp[12] = 5 << 4;
  const segment = Buffer.concat([tcp, Buffer.from(payload)]);
  const ethernet = Buffer.alloc(14);
  ethernet.writeUInt16BE(version === 4 ? 0x0800 : 0x86dd, 12);
  if (version === 4) {
    const ip = Buffer.from("45000000000000004006000001020304 0a0b0c0d".replace(" ", ""), "hex");
    ip.writeUInt16BE(20 + segment.length, 2);
    // Ethernet pads short frames; the pad is no payload
    return Buffer.concat([ethernet, ip, segment, Buffer.alloc(6)]);
  }
  const ip = Buffer.alloc(40);
  ip[0] = 0x60;
  ip.writeUInt16BE(segment.length, 4);
  ip[6] = 6;
  Buffer.from("fd000244000100000000000000000002", "hex").copy(ip, 8);
  Buffer.from("fd000244000200000000000000000003", "hex").copy(ip, 24);
  return Buffer.concat([ethernet, ip, segment]);
}

const file = (...frames: Buffer[]): Buffer =>
  Buffer.concat([pcapHeader(), ...frames.map((f) => pcapRecord(f, 1_700_000_000_123))]);

test("pcap: addresses, ports and payload of both families", () => {
  const [v4, v6] = parsePcap(file(tcpFrame(4, 1, "four"), tcpFrame(6, 1, "six")));
  assert.deepEqual(
    [v4?.src, v4?.srcPort, v4?.dst, v4?.dstPort],
    ["1.2.3.4", 40_000, "10.11.12.13", 80],
  );
  assert.equal(v4?.payload.toString(), "four");
  assert.deepEqual([v6?.src, v6?.dst], ["fd00:244:1::2", "fd00:244:2::3"]);
  assert.equal(v6?.payload.toString(), "six");
});

test("pcap: a file that is still being written ends at the last whole record", () => {
  const whole = file(tcpFrame(4, 1, "a"), tcpFrame(4, 2, "b"));
  for (let cut = 0; cut < whole.length; cut++)
    assert.ok(parsePcap(whole.subarray(0, cut)).length < 2, `cut at ${cut}`);
});

test("pcap: a marker split over reordered and repeated segments is found in its flow", () => {
  const frames = [
    tcpFrame(4, 100, "mar"),
    tcpFrame(4, 106, "SECRET"),
    tcpFrame(4, 103, "ker"),
    tcpFrame(4, 100, "marker"),
  ];
  const flows = flowsOf(parsePcap(file(...frames)));
  assert.equal(flows.length, 1);
  assert.equal(flows[0]?.bytes.toString(), "markerSECRET");
});

test("pcap: sequence numbers may wrap", () => {
  const flows = flowsOf(parsePcap(file(tcpFrame(4, 0xffff_fffe, "ab"), tcpFrame(4, 0, "cd"))));
  assert.equal(flows[0]?.bytes.toString(), "abcd");
});
