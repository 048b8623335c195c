// A descriptor that one thread writes and another's epoll sees. See eventfd(2).
import { check } from "./errors.ts";
import { nativeBuffer } from "./memory.ts";
import * as raw from "./raw.ts";

const EFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const counter = nativeBuffer(8);

/** The caller owns the descriptor. @throws {SysError} */
export function createEventFd(): number {
  return check("eventfd", raw.eventfd(0, EFD_NONBLOCK_CLOEXEC));
}

/** Makes the descriptor readable; any thread of the process may call it. */
export function signalEventFd(fd: number): void {
  counter.bytes.writeBigUInt64LE(1n);
  raw.write(fd, counter.address, 8);
}

/** Takes the signals that have come so far. */
export function drainEventFd(fd: number): void {
  raw.read(fd, counter.address, 8);
}
