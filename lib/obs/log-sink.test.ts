import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LogSink } from "./log-sink.ts";

test("lines reach the file in order, across batches and a flush", () => {
  const dir = mkdtempSync(join(tmpdir(), "log-sink-"));
  const fd = openSync(join(dir, "log"), "w");
  const want: string[] = [];
  {
    using sink = new LogSink({ fd, maxLines: 100 });
    for (let i = 0; i < 1_000; i++) {
      const line = `line ${i} ${"x".repeat(i % 97)}\n`;
      want.push(line);
      sink.write(line);
      assert.ok(sink.waiting <= 100, `${sink.waiting} lines wait`);
    }
  }
  closeSync(fd);
  assert.equal(readFileSync(join(dir, "log"), "utf8"), want.join(""));
  rmSync(dir, { recursive: true });
});

test("a slow reader loses nothing: the writer waits", { timeout: 20_000 }, async () => {
  const script = `
    import { LogSink } from ${JSON.stringify(join(import.meta.dirname, "log-sink.ts"))};
    using sink = new LogSink({ fd: 1, maxLines: 200 });
    for (let i = 0; i < 3000; i++) sink.write(String(i).padEnd(199, ".") + "\\n");
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "readable"); // a pipe full of lines nobody takes yet
  let text = "";
  for await (const chunk of child.stdout) text += String(chunk);
  const lines = text.split("\n");
  assert.equal(lines.length, 3001);
  for (let i = 0; i < 3000; i++) assert.equal(lines[i], String(i).padEnd(199, "."));
});
