// Watches against a server that breaks lines, streams and promises.
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Clock } from "#lib/base/clock.ts";
import { createLogger } from "#lib/obs/log.ts";
import { RESOURCES } from "../objects.ts";
import { ApiServerCluster } from "./api-server-cluster.ts";
import { type Answer, json, status, TestServer } from "./test-server.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });

function pod(name: string, resourceVersion: string, uid = name): object {
  return { metadata: { name, namespace: "shop", uid, resourceVersion, managedFields: [{}] } };
}

function line(type: string, object: object): string {
  return `${JSON.stringify({ type, object })}\n`;
}

interface Watched extends AsyncDisposable {
  readonly events: string[];
  readonly batches: number[];
  readonly errors: string[];
  readonly sleeps: number[];
  readonly server: TestServer;
  syncs: number;
  until(holds: () => boolean): Promise<void>;
}

/** Watches Pods at `answer`. Waiting takes no time but is written down. */
async function watching(answer: Answer): Promise<Watched> {
  const server = await TestServer.start(answer);
  const stop = new AbortController();
  const sleeps: number[] = [];
  const clock: Clock = {
    now: () => performance.now(),
    sleep: (ms) => {
      sleeps.push(ms);
      return new Promise((resolve) => setImmediate(resolve));
    },
  };
  const watched: Watched = {
    events: [],
    batches: [],
    errors: [],
    sleeps,
    server,
    syncs: 0,
    until: async (holds) => {
      while (!holds()) await sleep(1);
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await done;
      await server[Symbol.asyncDispose]();
    },
  };
  const cluster = new ApiServerCluster(server.api, { log, clock, random: () => 0.5 });
  const done = cluster.watch(
    RESOURCES.pods,
    {
      onEvents: (events) => {
        watched.batches.push(events.length);
        for (const { type, object } of events)
          watched.events.push(`${type} ${object.metadata.name}@${object.metadata.resourceVersion}`);
      },
      onSynced: () => {
        watched.syncs++;
      },
      onError: (error) => {
        watched.errors.push(error.message);
      },
    },
    { signal: stop.signal },
  );
  return watched;
}

/** Answers one after the other; the last stays. Lists and watches apart. */
function script(
  lists: ((response: ServerResponse) => void)[],
  watches: ((response: ServerResponse) => void)[],
): Answer {
  return (request, response) => {
    const steps = (request.url ?? "").includes("watch=true") ? watches : lists;
    const step = steps.length > 1 ? steps.shift() : steps[0];
    step?.(response);
  };
}

const listed =
  (version: string, ...items: object[]) =>
  (response: ServerResponse): void =>
    json(response, { kind: "PodList", metadata: { resourceVersion: version }, items });
const hangs = (response: ServerResponse): void => response.writeHead(200).flushHeaders();

test("the events of one chunk are one batch, and a watch goes on where it ended", {
  timeout: 5_000,
}, async () => {
  await using seen = await watching(
    script(
      [listed("5", pod("a", "3"))],
      [
        (response) => {
          response.write(
            line("MODIFIED", pod("a", "6")) +
              line("ADDED", pod("b", "7")) +
              line("BOOKMARK", { metadata: { resourceVersion: "9" } }),
          );
          response.end();
        },
        (response) => response.end(line("DELETED", pod("a", "10"))),
        hangs,
      ],
    ),
  );
  await seen.until(() => seen.events.length === 4 && seen.server.requests.length === 4);
  assert.deepEqual(seen.events, ["added a@3", "modified a@6", "added b@7", "deleted a@6"]);
  assert.deepEqual(seen.batches, [1, 2, 1]);
  assert.deepEqual(
    seen.server.requests.slice(1).map((r) => r.url.searchParams.get("resourceVersion")),
    ["5", "9", "10"],
  );
  assert.deepEqual(seen.errors, []);
});

test("410 within the stream leads to a new list and its differences", {
  timeout: 5_000,
}, async () => {
  const kept = pod("kept", "2");
  await using seen = await watching(
    script(
      [
        listed("5", kept, pod("gone", "3"), pod("reborn", "4", "uid-1")),
        listed("50", kept, pod("new", "40"), pod("reborn", "41", "uid-2")),
      ],
      [(response) => response.end(line("ERROR", status(410, "Expired", "too old"))), hangs],
    ),
  );
  await seen.until(() => seen.events.length === 7);
  assert.deepEqual(seen.events.slice(3).toSorted(), [
    "added new@40",
    "added reborn@41",
    "deleted gone@3",
    "deleted reborn@4",
  ]);
  assert.equal(seen.syncs, 1);
  assert.deepEqual(seen.errors, []);
  assert.deepEqual(seen.sleeps, [], "at once");
});

test("a broken line is told once, and the watch goes on from the last good event", {
  timeout: 5_000,
}, async () => {
  await using seen = await watching(
    script(
      [listed("5")],
      [
        (response) => response.end(`${line("ADDED", pod("a", "6"))}{"type":"ADDED","obj\n`),
        (response) => response.end(`${line("ADDED", pod("b", "7"))}{"type":"ADD`),
        hangs,
      ],
    ),
  );
  await seen.until(() => seen.server.requests.length === 4);
  assert.deepEqual(seen.events, ["added a@6", "added b@7"]);
  assert.deepEqual(seen.errors, ["The watch sent a line that is no JSON"]);
  assert.equal(seen.server.requests[2]?.url.searchParams.get("resourceVersion"), "6");
  assert.equal(seen.server.requests[3]?.url.searchParams.get("resourceVersion"), "7");
});

test("faults are told once each, waited out longer and longer, and healed", {
  timeout: 5_000,
}, async () => {
  let refusals = 8;
  await using seen = await watching((request, response) => {
    if (refusals-- > 0) return json(response, status(500, "InternalError", "etcd is away"), 500);
    if ((request.url ?? "").includes("watch=true")) return hangs(response);
    return listed("5", pod("a", "3"))(response);
  });
  await seen.until(() => seen.syncs === 1);
  assert.deepEqual(seen.errors, ["Cannot list Pod: etcd is away"]);
  assert.deepEqual(seen.sleeps, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
});

test("a connection that dies within a stream is no fault", { timeout: 5_000 }, async () => {
  await using seen = await watching(
    script(
      [listed("5")],
      [
        (response) => {
          response.write(line("ADDED", pod("a", "6")));
          setTimeout(() => response.destroy(), 20);
        },
        hangs,
      ],
    ),
  );
  await seen.until(() => seen.server.requests.length === 3);
  assert.deepEqual(seen.errors, []);
  assert.equal(seen.server.requests[2]?.url.searchParams.get("resourceVersion"), "6");
});

test("a list that expires between its pages begins anew", { timeout: 5_000 }, async () => {
  const page =
    (token: string, ...items: object[]) =>
    (response: ServerResponse): void =>
      json(response, { metadata: { resourceVersion: "5", continue: token }, items });
  await using seen = await watching(
    script(
      [
        page("more", pod("a", "1"), pod("b", "2")),
        (response) => json(response, status(410, "Expired", "continue is too old"), 410),
        page("more", pod("a", "1")),
        page("", pod("c", "6")),
      ],
      [hangs],
    ),
  );
  await seen.until(() => seen.syncs === 1);
  assert.deepEqual(seen.events, ["added a@1", "added b@2", "added c@6", "deleted b@2"]);
  assert.deepEqual(seen.errors, []);
});

test("a malformed object is named, and so are objects that are none", {
  timeout: 5_000,
}, async () => {
  const bad = {
    metadata: { name: "bad", namespace: "shop", resourceVersion: "4" },
    spec: { nodeName: 7 },
  };
  await using seen = await watching(
    script(
      [listed("5", bad, pod("a", "3"), { spec: {} })],
      [(response) => void response.write(line("MODIFIED", bad) + line("DELETED", bad)), hangs],
    ),
  );
  await seen.until(() => seen.server.requests.length === 2);
  assert.deepEqual(seen.events, ["added a@3"]);
  assert.deepEqual(seen.errors, [
    "Pod shop/bad: spec.nodeName: expected text, got 7 (put it in quotes)",
    "Pod (no name): metadata: is required",
  ]);
});

test("a handler that throws loses its own watch only", { timeout: 5_000 }, async () => {
  await using server = await TestServer.start(
    script([listed("5", pod("a", "3"))], [(r) => void r.write(line("ADDED", pod("b", "6")))]),
  );
  const cluster = new ApiServerCluster(server.api, { log });
  const stop = new AbortController();
  const second = Promise.withResolvers<void>();
  const bad = cluster.watch(
    RESOURCES.pods,
    {
      onEvents: () => {
        throw new Error("defect");
      },
      onSynced: () => {},
    },
    { signal: stop.signal },
  );
  const good = cluster.watch(
    RESOURCES.pods,
    {
      onEvents: (events) => {
        if (events.some((event) => event.object.metadata.name === "b")) second.resolve();
      },
      onSynced: () => {},
    },
    { signal: stop.signal },
  );
  await assert.rejects(bad, /defect/);
  await second.promise;
  stop.abort();
  await good;
});
