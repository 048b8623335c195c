// A packet socket that writes pcap records: the witness where tcpdump cannot run. tcpdump insists on
// changing its groups, which a user namespace made without privileges forbids.
import { openSync, closeSync, writeSync } from "node:fs";
import { check, EAGAIN, lastErrno } from "#lib/sys/errors.ts";
import { nativeBuffer } from "#lib/sys/memory.ts";
import { inNetns } from "#lib/sys/netns.ts";
import * as raw from "#lib/sys/raw.ts";
import type { Netns } from "./netns.ts";
import { pcapHeader, pcapRecord } from "./pcap.ts";

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0x800 | 0x80000;
const ETH_P_ALL_BE = 0x0300;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_MR_PROMISC = 1;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const RECEIVE_BUFFER = 32 << 20;
/** Offloaded segments reach 64 KiB and their headers. */
const MAX_FRAME = 1 << 17;

/** Starts writing every frame of an interface to `file`. @returns what stops it, after the last frame */
export async function tapPackets(netns: Netns, device: string, file: string): Promise<() => void> {
  const { stdout } = await netns.run(["ip", "-json", "link", "show", "dev", device]);
  const index = (JSON.parse(stdout) as { ifindex: number }[])[0]?.ifindex ?? 0;
  const frame = nativeBuffer(MAX_FRAME);
  const socket = inNetns(netns.fd, () =>
    check("socket", raw.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, ETH_P_ALL_BE)),
  );
  // struct sockaddr_ll: family u16, protocol u16 BE, ifindex i32, and what only the kernel fills
  frame.bytes.fill(0, 0, 20);
  frame.bytes.writeUInt16LE(AF_PACKET, 0);
  frame.bytes.writeUInt16LE(ETH_P_ALL_BE, 2);
  frame.bytes.writeInt32LE(index, 4);
  check("bind", raw.bind(socket, frame.address, 20), device);
  // struct packet_mreq: ifindex i32, type u16, length u16, address 8
  frame.bytes.fill(0, 0, 16);
  frame.bytes.writeInt32LE(index, 0);
  frame.bytes.writeUInt16LE(PACKET_MR_PROMISC, 4);
  check("setsockopt", raw.setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, frame.address, 16));
  frame.bytes.writeInt32LE(RECEIVE_BUFFER, 0);
  raw.setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, frame.address, 4); // refused in a user namespace

  const out = openSync(file, "w");
  writeSync(out, pcapHeader());
  const drain = (): void => {
    for (;;) {
      const length = raw.read(socket, frame.address, frame.size);
      if (length >= 0) writeSync(out, pcapRecord(frame.bytes.subarray(0, length), Date.now()));
      else if (lastErrno() === EAGAIN) return;
      else check("read", length, device);
    }
  };
  const stopPolling = raw.pollReadable(socket, drain);
  return () => {
    drain();
    stopPolling();
    raw.close(socket);
    closeSync(out);
  };
}
