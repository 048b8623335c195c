// The CNI plugin's executable: environment and standard input in, one JSON value out, exit status.
import { readSync, writeSync } from "node:fs";
import { runCommand } from "./command.ts";
import { CNI_CODE, CniError, errorResult } from "./errors.ts";

/** A chain's results stay far below; what is longer is not a configuration. */
const MAX_STDIN_BYTES = 4 << 20;

// no top-level await: the single executable is one CommonJS script
void main();

async function main(): Promise<void> {
  if ((process.env["CNI_COMMAND"] ?? "") === "") {
    print(2, "Ambit CNI plugin, CNI protocol versions 0.1.0 to 1.1.0\n");
    return;
  }
  try {
    const done = await runCommand(process.env, readStdin);
    print(1, done.stdout);
    await done.afterwards();
  } catch (error) {
    print(1, errorResult(error));
    process.exitCode = 1;
  }
}

function readStdin(): string {
  const chunks: Buffer[] = [];
  for (let size = 0; ; ) {
    const buffer = Buffer.alloc(64 << 10);
    const got = retrying(() => readSync(0, buffer));
    if (got === 0) return Buffer.concat(chunks).toString();
    size += got;
    if (size > MAX_STDIN_BYTES)
      throw new CniError(CNI_CODE.decoding, `Standard input exceeds ${MAX_STDIN_BYTES} bytes`);
    chunks.push(buffer.subarray(0, got));
  }
}

function print(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += retrying(() => writeSync(fd, bytes, at));
}

/** A runtime may hand over non-blocking pipes. */
function retrying(act: () => number): number {
  for (;;) {
    try {
      return act();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EOF") return 0;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}
