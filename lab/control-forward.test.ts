// What the control socket passes on to the mesh's parts, and what it does not.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, request, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { forward } from "./control-forward.ts";
import type { PartName } from "./mesh-parts.ts";
import type { Mesh, MeshPart } from "./mesh.ts";

/** A control socket that forwards everything to one part, which answers with what it got. */
async function ask(method: string, part: PartName, target: string, body = ""): Promise<string> {
  await using owned = new AsyncDisposableStack();
  const listen = async (server: ReturnType<typeof createServer>): Promise<number> => {
    await once(server.listen(0, "127.0.0.1"), "listening");
    owned.defer(() => void server.close());
    return (server.address() as AddressInfo).port;
  };
  const admin = await listen(
    createServer((req, res) => {
      void text(req).then((got) => res.end(`${req.method} ${req.url} ${got}`));
    }),
  );
  const mesh = {
    request: (_part: unknown, _port: number, path: string, _ms: number, verb: string) =>
      new Promise<IncomingMessage>((resolve) =>
        request({ port: admin, path, method: verb, agent: false }, resolve).end(),
      ),
  } as unknown as Mesh;
  const control = await listen(
    createServer((req, res) => {
      const named = { name: part } as MeshPart;
      forward(req, res, mesh, named, target).catch((error: Error) => res.end(error.message));
    }),
  );
  const response = await new Promise<IncomingMessage>((resolve) =>
    request({ port: control, method, agent: false }, resolve).end(body),
  );
  return await text(response);
}

test("reads pass with their query, and the log filter's POST without its body", async () => {
  assert.equal(await ask("GET", "ztunnel", "/config_dump?x=1"), "GET /config_dump?x=1 ");
  assert.equal(await ask("GET", "istiod", "/debug/syncz"), "GET /debug/syncz ");
  assert.equal(
    await ask("POST", "ztunnel", "/logging?level=debug", "ignored"),
    "POST /logging?level=debug ",
  );
});

test("no other POST passes, however it is spelled", async () => {
  for (const [part, target] of [
    ["ztunnel", "/quitquitquit"],
    ["ztunnel", "/%6cogging"],
    ["ztunnel", "/logging/../quitquitquit"],
    ["ztunnel", "//logging"],
    ["ztunnel", "/logging#x"],
    ["cni", "/logging"],
    ["istiod", "/logging"],
  ] as const)
    assert.match(await ask("POST", part, target), /^POST \S+ is not forwarded/, target);
});

test("a target longer than any question is refused", async () => {
  assert.match(await ask("POST", "ztunnel", `/logging?${"x".repeat(3_000)}`), /over 2048/);
});
