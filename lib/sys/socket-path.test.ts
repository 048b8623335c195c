// Two processes that overlap: the newer has the name, whoever ends when.
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { bindingPath, placeSocket } from "./socket-path.ts";
import { connectSeqpacket, listenSeqpacket } from "./seqpacket.ts";

test("an older server does not take the newer one's socket with it", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-socket-"));
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

test("a seqpacket listener replaces the name at once, and the older leaves the newer one's alone", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-socket-"));
  const path = join(dir, "zds.sock");
  try {
    using older = listenSeqpacket(path);
    using newer = listenSeqpacket(path, 0o660);
    assert.equal(statSync(path).mode & 0o777, 0o660);
    older.close();
    using client = await connectSeqpacket(path);
    using server = await newer.accept();
    await client.send(Buffer.from("to the newer"));
    const got = await server?.receive();
    assert.equal(Buffer.from(got?.bytes ?? []).toString(), "to the newer");
    newer.close();
    assert.deepEqual(readdirSync(dir), []);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test("a name that cannot be given leaves nothing behind", () => {
  const dir = mkdtempSync(join(tmpdir(), "ambit-socket-"));
  const path = join(dir, "zds.sock");
  try {
    mkdirSync(path);
    assert.throws(() => listenSeqpacket(path), /EISDIR|ENOTDIR|ENOTEMPTY|EEXIST/);
    assert.deepEqual(readdirSync(dir), ["zds.sock"]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
