// The limit on open files, raised to what the system allows. See getrlimit(2).
import { check } from "./errors.ts";
import { nativeBuffer } from "./memory.ts";
import { getrlimit, setrlimit } from "./raw.ts";

const RLIMIT_NOFILE = 7;

/** Raises the soft limit to the hard one and tells both values. @throws {SysError} */
export function raiseOpenFiles(): { readonly old: number; readonly new: number } {
  const limit = nativeBuffer(16);
  check("getrlimit", getrlimit(RLIMIT_NOFILE, limit.address));
  const old = Number(limit.bytes.readBigUInt64LE(0));
  const hard = limit.bytes.readBigUInt64LE(8);
  limit.bytes.writeBigUInt64LE(hard, 0);
  check("setrlimit", setrlimit(RLIMIT_NOFILE, limit.address));
  return { old, new: Number(hard) };
}
