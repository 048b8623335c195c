// Completes TCP and UDP checksums in an Ethernet frame. Between virtual interfaces the kernel leaves
// them unfinished (CHECKSUM_PARTIAL) and says so beside the packet; a frame that travelled through a
// user-space process has lost that note.

/** Overwrites the transport checksum of an unfragmented IPv4 or IPv6 packet; leaves all else alone. */
export function completeChecksum(frame: Buffer): void {
  if (frame.length < 34) return;
  const type = frame.readUInt16BE(12);
  if (type === 0x0800) {
    const headerLength = ((frame[14] ?? 0) & 15) * 4;
    const isFragment = (frame.readUInt16BE(20) & 0x3fff) !== 0;
    if (isFragment) return;
    const end = Math.min(frame.length, 14 + frame.readUInt16BE(16));
    finish(frame, frame[23] ?? 0, frame.subarray(26, 34), 14 + headerLength, end);
  } else if (type === 0x86dd && frame.length >= 54) {
    const end = Math.min(frame.length, 54 + frame.readUInt16BE(18));
    finish(frame, frame[20] ?? 0, frame.subarray(22, 54), 54, end);
  }
}

/** @param addresses source and destination, as they enter the pseudo header (RFC 9293 §3.1) */
function finish(
  frame: Buffer,
  protocol: number,
  addresses: Buffer,
  start: number,
  end: number,
): void {
  const at = protocol === 6 ? start + 16 : protocol === 17 ? start + 6 : -1;
  if (at < 0 || at + 2 > end) return;
  frame.writeUInt16BE(0, at);
  let sum = protocol + (end - start);
  for (let i = 0; i < addresses.length; i += 2) sum += addresses.readUInt16BE(i);
  for (let i = start; i + 1 < end; i += 2) sum += frame.readUInt16BE(i);
  if ((end - start) % 2 === 1) sum += (frame[end - 1] ?? 0) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const checksum = ~sum & 0xffff;
  // a UDP checksum of zero means "none" (RFC 768)
  frame.writeUInt16BE(protocol === 17 && checksum === 0 ? 0xffff : checksum, at);
}
