// Network namespaces of this thread. A socket belongs for life to the namespace its thread was in at
// socket(2); everything after may happen elsewhere. setns(2) is per thread, and a thread started
// meanwhile would inherit the pod's namespace: nothing here may start one.
import { closeSync, fstatSync, openSync } from "node:fs";
import type { Brand } from "../base/brand.ts";
import { check, SysError } from "./errors.ts";
import { setns } from "./raw.ts";

export type NetnsFd = Brand<number, "NetnsFd">;

const CLONE_NEWNET = 0x4000_0000;
type Sync<T> = T extends PromiseLike<unknown> ? never : T;

let home: NetnsFd | null = null;
/** Where this thread is when it is not at home (`lingerIn`). */
let away: NetnsFd | null = null;

/** The namespace this thread started in; opened once and kept. */
export function homeNetns(): NetnsFd {
  // thread-self: /proc/self follows the main thread
  home ??= openNetns("/proc/thread-self/ns/net");
  return home;
}

/** The caller owns the descriptor. @throws {SysError} when the path is no namespace or is gone */
export function openNetns(path: string): NetnsFd {
  try {
    return openSync(path, "r") as NetnsFd;
  } catch (error) {
    const { errno = 0 } = error as NodeJS.ErrnoException;
    throw new SysError("open", Math.abs(errno), path);
  }
}

/** Takes a descriptor that arrived from elsewhere (SCM_RIGHTS). */
export function asNetnsFd(fd: number): NetnsFd {
  return fd as NetnsFd;
}

/** `device:inode`, the only way to tell whether two descriptors are the same namespace. */
export function netnsId(fd: NetnsFd): string {
  const stat = fstatSync(fd, { bigint: true });
  return `${stat.dev}:${stat.ino}`;
}

/** Closes any descriptor opened here or received. */
export function closeFd(fd: number): void {
  closeSync(fd);
}

/**
 * Runs `body` with this thread inside `ns`, then returns it home.
 * `body` must be synchronous: an await would lend the thread to other work while it is in the pod.
 * @throws {SysError} when entering fails; failing to return ends the process
 */
export function inNetns<T>(ns: NetnsFd, body: () => Sync<T>): Sync<T> {
  const back = away ?? homeNetns();
  check("setns", setns(ns, CLONE_NEWNET));
  try {
    return body();
  } finally {
    if (setns(back, CLONE_NEWNET) < 0) process.abort();
  }
}

/**
 * Moves this thread into `ns` and leaves it there, for a data-plane worker that does nothing but
 * open sockets in pods: staying saves two system calls a connection. `goHome` ends the stay, and
 * must be called before `ns` is given up, since a lingering thread keeps the namespace alive.
 * @throws {SysError} when entering fails; the thread then is where it was
 */
export function lingerIn(ns: NetnsFd): void {
  if (away === ns) return;
  homeNetns();
  check("setns", setns(ns, CLONE_NEWNET));
  away = ns;
}

/** Returns this thread home; failing to do so ends the process. */
export function goHome(): void {
  if (away === null) return;
  if (setns(homeNetns(), CLONE_NEWNET) < 0) process.abort();
  away = null;
}
