// `zc log`: istioctl's words become ztunnel's filter, asked of every ztunnel or of one.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { testLab } from "../../testdata/test-lab.ts";

const DUMP = readFileSync(join(import.meta.dirname, "../../testdata/config-dump.json"), "utf8");

/** Ztunnels that say what was asked of them; `broken` answers nothing good. */
function ztunnels(asked: string[], broken = ""): RequestListener {
  return ({ method, url = "" }, response) => {
    if (url.endsWith("/config_dump")) return void response.end(DUMP);
    if (broken !== "" && url.includes(`/${broken}/`)) response.statusCode = 409;
    else asked.push(`${method} ${decodeURIComponent(url)}`);
    response.end(
      response.statusCode === 200
        ? "current log level is access=debug,info\n"
        : '{"error":"ztunnel is down","code":"NOT_READY"}\n',
    );
  };
}

for (const [flags, query] of [
  ["", ""],
  ["--level debug", "?level=debug"],
  ["--level warn,access:info", "?level=warn,access=info"],
  ["--level a::b:trace", "?level=a::b=trace"],
  ["--reset", "?reset"],
  ["-r --level x=off", "?reset&level=x=off"],
] as const)
  test(`zc log ${flags} asks every ztunnel for /logging${query}`, async () => {
    const asked: string[] = [];
    await using lab = await testLab(["a", "b"], ztunnels(asked));
    const ran = await lab.run(`zc log ${flags}`);
    assert.deepEqual(asked.sort(), [
      `POST /nodes/a/ztunnel/logging${query}`,
      `POST /nodes/b/ztunnel/logging${query}`,
    ]);
    assert.deepEqual(
      [ran.code, ran.stdout.split("\n")[1], ran.stderr],
      [0, "a      info    access:debug", ""],
    );
  });

test("zc log of a pod asks the ztunnel of its node", async () => {
  const asked: string[] = [];
  await using lab = await testLab(["a", "b"], ztunnels(asked));
  assert.equal((await lab.run("zc log server-v2.shop -o name")).stdout, "ztunnel/b\n");
  assert.deepEqual(asked, ["POST /nodes/b/ztunnel/logging"]);
  assert.equal((await lab.run("zc log nobody")).code, 4);
  assert.equal((await lab.run("zc log client --node a")).code, 2);
});

test("a level that is none is refused before any ztunnel is asked", async () => {
  const asked: string[] = [];
  await using lab = await testLab(["a"], ztunnels(asked));
  for (const level of ["loud", "access:", "access:loud", "access", ""]) {
    const ran = await lab.run(["zc", "log", "--level", level]);
    assert.deepEqual([ran.code, ran.stdout], [2, ""], level);
    assert.match(ran.stderr, /levels: off, error, warn, info, debug, trace/, level);
  }
  assert.deepEqual(asked, []);
});

test("reading some levels is an answer, changing only some is a failure", async () => {
  await using lab = await testLab(["a", "b"], ztunnels([], "b"));
  const read = await lab.run("zc log");
  assert.deepEqual([read.code, /b \(ztunnel is down\)/.test(read.stderr)], [0, true], read.stderr);
  assert.equal((await lab.run("zc log --level debug")).code, 1);
});
