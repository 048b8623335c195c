// What a client owes its server, and what it makes of a server that misbehaves.
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { KubeError } from "../errors.ts";
import { about, type ApiRequest } from "./api-server.ts";
import { json, status, TestServer } from "./test-server.ts";

const GET: ApiRequest = { method: "GET", path: "/x", subject: about("get", "x") };

function failed(code: string, message: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof KubeError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}

test("429 is tried again when the server says, and not for ever", { timeout: 5_000 }, async () => {
  let refusals = 2;
  await using server = await TestServer.start((_, response) => {
    if (refusals-- <= 0) return json(response, { ok: true });
    response.setHeader("Retry-After", "0.05");
    json(response, status(429, "TooManyRequests", "slow down"), 429);
  });
  assert.deepEqual(await server.api.request(GET), { ok: true });
  assert.equal(server.requests.length, 3);
  refusals = Number.POSITIVE_INFINITY;
  await assert.rejects(server.api.request(GET), failed("BUSY", /get x: slow down/));
  assert.equal(server.requests.length, 3 + 5);
});

test("a 500 without a time to return is the answer", async () => {
  await using server = await TestServer.start((_, response) => {
    response.writeHead(500);
    response.end("etcd is away");
  });
  await assert.rejects(server.api.request(GET), failed("UNAVAILABLE", /get x: etcd is away/));
  assert.equal(server.requests.length, 1);
});

test("no answer in time is a TIMEOUT, an aborted request its own reason", async () => {
  await using server = await TestServer.start(() => {});
  await assert.rejects(
    server.api.request({ ...GET, deadlineMs: 50 }),
    failed("TIMEOUT", /no answer from http.* within 50 ms/),
  );
  const stop = new AbortController();
  const reason = new Error("enough");
  const pending = server.api.request({ ...GET, signal: stop.signal });
  stop.abort(reason);
  await assert.rejects(pending, reason);
});

test("after 401 the credentials are read anew, once", async () => {
  await using server = await TestServer.start((request, response) =>
    request.headers.authorization === "Bearer new"
      ? json(response, {})
      : json(response, status(401, "Unauthorized", "Unauthorized"), 401),
  );
  server.tokens = ["old", "new"];
  await server.api.request(GET);
  assert.deepEqual(
    server.requests.map((r) => r.token),
    ["Bearer old", "Bearer new"],
  );
  server.tokens = ["old"];
  await assert.rejects(server.api.request(GET), failed("UNAUTHORIZED", /log in again/));
  assert.equal(server.requests.length, 4);
});

test("answers that break off or are no JSON are told apart from refusals", async () => {
  await using server = await TestServer.start((request, response) => {
    if (request.url === "/cut") {
      response.writeHead(200, { "Content-Length": "100" });
      response.write("{");
      setTimeout(() => response.destroy(), 20);
    } else response.end("<html>");
  });
  await assert.rejects(
    server.api.request({ ...GET, path: "/cut" }),
    failed("UNAVAILABLE", /broke off/),
  );
  await assert.rejects(server.api.request(GET), failed("UNAVAILABLE", /no JSON/));
});

test("a kept connection that the server has closed is not noticed by the caller", async () => {
  await using server = await TestServer.start((_, response) => json(response, { ok: true }));
  await server.api.request(GET);
  // Closed just as the next request goes out on it.
  server.server.once("request", (request) => request.socket.destroy());
  assert.deepEqual(await server.api.request(GET), { ok: true });
});

test("no more than 32 requests are under way, the others follow", { timeout: 5_000 }, async () => {
  const held: ServerResponse[] = [];
  let most = 0;
  let came = 0;
  await using server = await TestServer.start((_, response) => {
    most = Math.max(most, held.push(response));
    // Answered together, when there has been time for one too many.
    if (++came % 32 === 0 || came === 100)
      setTimeout(() => {
        for (const one of held.splice(0)) json(one, {});
      }, 20);
  });
  await Promise.all(Array.from({ length: 100 }, () => server.api.request(GET)));
  assert.equal(server.requests.length, 100);
  assert.equal(most, 32);
});

test("a stream ends with its signal", { timeout: 5_000 }, async () => {
  await using server = await TestServer.start((_, response) => {
    response.writeHead(200);
    response.write("one");
  });
  const stop = new AbortController();
  const stream = await server.api.stream({ ...GET, signal: stop.signal });
  stream.on("error", () => {});
  assert.equal(String((await once(stream, "data"))[0]), "one");
  stop.abort();
  if (!stream.closed) await once(stream, "close");
});
