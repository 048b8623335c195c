// Two agents that overlap: the newer has the name, whoever ends when.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bindingPath, placeSocket } from "./socket-file.ts";

test("an older agent does not take the newer one's socket with it", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cni-socket-"));
  const path = join(dir, "x.sock");
  const open = async (says: string): Promise<Server & Disposable> => {
    const server = createServer((socket) => socket.end(says));
    const bound = bindingPath(path);
    await new Promise<void>((resolve) => server.listen(bound, resolve));
    const name = placeSocket(bound, path);
    return Object.assign(server, {
      [Symbol.dispose]: () => {
        name[Symbol.dispose]();
        server.close();
      },
    });
  };
  const ask = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once("data", (data) => resolve(data.toString()));
      socket.once("error", reject);
    });
  try {
    writeFileSync(`${path}.tmp.0000`, "left by one that was killed");
    const older = await open("older");
    assert.equal(await ask(), "older");
    const newer = await open("newer");
    older[Symbol.dispose]();
    assert.equal(await ask(), "newer");
    newer[Symbol.dispose]();
    assert.equal(existsSync(path), false);
    assert.deepEqual(readdirSync(dir), []);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
