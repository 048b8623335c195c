// Failed system calls as errors with their errno, made right after the call and before any other.
import { getSystemErrorName } from "node:util";
import { errno } from "./raw.ts";

export const EAGAIN = 11;
export const EINTR = 4;
export const EINPROGRESS = 115;
export const ENOENT = 2;
export const EPIPE = 32;
export const ECONNRESET = 104;

export class SysError extends Error {
  override readonly name = "SysError";
  readonly call: string;
  readonly errno: number;
  /** Symbolic name, e.g. `EPERM`. */
  readonly code: string;

  constructor(call: string, number: number, context = "") {
    const code = errnoName(number);
    super(`${call}${context === "" ? "" : ` ${context}`}: ${code}`);
    this.call = call;
    this.errno = number;
    this.code = code;
  }
}

/** Passes a result of zero or more through. @throws {SysError} for a negative one, with this thread's errno */
export function check(call: string, result: number, context = ""): number {
  if (result < 0) throw new SysError(call, lastErrno(), context);
  return result;
}

/** errno of the call that has just failed on this thread. */
export function lastErrno(): number {
  return errno[0] ?? 0;
}

export function errnoName(number: number): string {
  try {
    return getSystemErrorName(-number);
  } catch {
    return `errno ${number}`;
  }
}
