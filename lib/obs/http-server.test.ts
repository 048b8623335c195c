import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { HttpServer, type Route, type Routes } from "./http-server.ts";

const ROUTES: Routes = new Map<string, Route>([
  ["/any", { handle: (r) => ({ body: `${r.method} ${r.url.searchParams.get("q") ?? ""}` }) }],
  ["/post", { methods: ["POST"], usage: "POST it\n", handle: () => ({ body: "done" }) }],
  [
    "/fails",
    {
      handle: () => {
        throw new Error("broken inside");
      },
    },
  ],
  [
    "/stream",
    {
      handle: () => ({
        type: "application/x-ndjson",
        body: (async function* () {
          yield "1\n";
          await Promise.resolve();
          yield "2\n";
        })(),
      }),
    },
  ],
]);

test("paths, methods and failures answer as documented", async () => {
  const failed: string[] = [];
  await using server = await HttpServer.listen(
    [{ host: "127.0.0.1", port: 0 }],
    ROUTES,
    (_error, path) => failed.push(path),
  );
  const base = `http://127.0.0.1:${server.port}`;
  for (const c of [
    { method: "GET", path: "/any?q=7", status: 200, body: "GET 7" },
    { method: "DELETE", path: "/any", status: 200, body: "DELETE " },
    { method: "POST", path: "/post", status: 200, body: "done" },
    { method: "GET", path: "/post", status: 405, body: "POST it\n" },
    { method: "GET", path: "/nowhere", status: 404, body: "Not Found\n" },
    { method: "GET", path: "/fails", status: 500, body: "broken inside\n" },
    { method: "GET", path: "/stream", status: 200, body: "1\n2\n" },
  ]) {
    const answer = await fetch(base + c.path, { method: c.method });
    assert.equal(answer.status, c.status, c.path);
    assert.equal(await answer.text(), c.body, c.path);
  }
  assert.deepEqual(failed, ["/fails"]);
});

test("a client that never finishes its headers is cut", { timeout: 8_000 }, async () => {
  await using server = await HttpServer.listen([{ host: "127.0.0.1", port: 0 }], ROUTES);
  const socket = connect(server.port, "127.0.0.1");
  socket.write("GET /any HTTP/1.1\r\nHost: x\r\n");
  let text = "";
  socket.on("data", (chunk) => (text += String(chunk)));
  await once(socket, "close");
  assert.match(text, /^HTTP\/1\.1 408 /);
});

test("headers past 8 KiB are refused", { timeout: 5_000 }, async () => {
  await using server = await HttpServer.listen([{ host: "127.0.0.1", port: 0 }], ROUTES);
  const answer = await fetch(`http://127.0.0.1:${server.port}/any`, {
    headers: { "x-long": "x".repeat(9_000) },
  });
  assert.equal(answer.status, 431);
});

test("a failed bind closes what was bound", async () => {
  await using taken = await HttpServer.listen([{ host: "127.0.0.1", port: 0 }], ROUTES);
  await assert.rejects(
    HttpServer.listen(
      [
        { host: "127.0.0.1", port: 0 },
        { host: "127.0.0.1", port: taken.port },
      ],
      ROUTES,
    ),
    { code: "EADDRINUSE" },
  );
});
