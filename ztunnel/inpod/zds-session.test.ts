import assert from "node:assert/strict";
import { test } from "node:test";
import { WorkloadRequest } from "#lib/wire/gen/zds.gen.ts";
import { ZdsSession, type ZdsAction, type ZdsDatagram } from "./zds-session.ts";

type Payload = NonNullable<WorkloadRequest["payload"]>;
const INFO = { name: "cart-1", namespace: "shop", serviceAccount: "cart" };

function message(payload: Payload | undefined, ...fds: number[]): ZdsDatagram {
  return { bytes: WorkloadRequest.encode({ payload }).finish(), fds, truncated: false };
}
const add = (uid: string, ...fds: number[]): ZdsDatagram =>
  message({ $case: "add", value: { uid, workloadInfo: INFO } }, ...fds);
const keep = (uid: string, ...fds: number[]): ZdsDatagram =>
  message({ $case: "keep", value: { uid } }, ...fds);
const del = (uid: string, ...fds: number[]): ZdsDatagram =>
  message({ $case: "del", value: { uid } }, ...fds);
const snapshotSent = (...fds: number[]): ZdsDatagram =>
  message({ $case: "snapshotSent", value: {} }, ...fds);

/** What each phase does with a message: `kind`, or `kind: detail`. */
function short(action: ZdsAction): string {
  switch (action.kind) {
    case "add":
      return `add ${action.pod.uid} fd ${action.netnsFd}`;
    case "remove":
      return `remove ${action.uid}`;
    case "reconcile":
      return `reconcile ${[...action.wanted].join(" ")}`;
    case "noted":
    case "bad-message":
    case "protocol-error":
      return action.kind;
    default:
      return action satisfies never;
  }
}

for (const c of [
  { name: "add", datagram: add("a", 7), snapshot: "add a fd 7", live: "add a fd 7" },
  { name: "keep", datagram: keep("a"), snapshot: "noted", live: "protocol-error" },
  { name: "del", datagram: del("a"), snapshot: "noted", live: "remove a" },
  {
    name: "snapshot sent",
    datagram: snapshotSent(),
    snapshot: "reconcile ",
    live: "protocol-error",
  },
  {
    name: "add without a descriptor",
    datagram: add("a"),
    snapshot: "bad-message",
    live: "bad-message",
  },
  { name: "add with two", datagram: add("a", 7, 8), snapshot: "bad-message", live: "bad-message" },
  { name: "add without a uid", datagram: add("", 7), snapshot: "bad-message", live: "bad-message" },
  {
    name: "add without info",
    datagram: message({ $case: "add", value: { uid: "a" } }, 7),
    snapshot: "protocol-error",
    live: "protocol-error",
  },
  {
    name: "keep with a descriptor",
    datagram: keep("a", 7),
    snapshot: "bad-message",
    live: "bad-message",
  },
  {
    name: "del with a descriptor",
    datagram: del("a", 7),
    snapshot: "bad-message",
    live: "bad-message",
  },
  {
    name: "snapshot with a descriptor",
    datagram: snapshotSent(7),
    snapshot: "bad-message",
    live: "bad-message",
  },
  {
    name: "no payload",
    datagram: message(undefined),
    snapshot: "bad-message",
    live: "bad-message",
  },
  {
    name: "no protobuf",
    datagram: { bytes: Buffer.from("0aff", "hex"), fds: [], truncated: false },
    snapshot: "bad-message",
    live: "bad-message",
  },
  {
    name: "truncated",
    datagram: { ...add("a", 7), truncated: true },
    snapshot: "bad-message",
    live: "bad-message",
  },
])
  test(`zds: ${c.name}`, () => {
    assert.equal(short(new ZdsSession().on(c.datagram)), c.snapshot);
    const live = new ZdsSession();
    live.on(snapshotSent());
    assert.ok(live.isLive);
    assert.equal(short(live.on(c.datagram)), c.live);
  });

test("the snapshot's pods are those added or kept and not deleted again", () => {
  const session = new ZdsSession();
  session.on(add("a", 3));
  session.on(keep("b"));
  session.on(add("c", 4));
  session.on(del("c"));
  assert.equal(short(session.on(snapshotSent())), "reconcile a b");
});

test("an added pod carries who it is", () => {
  const action = new ZdsSession().on(add("uid-1", 5));
  assert.deepEqual(action.kind === "add" && action.pod, { uid: "uid-1", ...INFO });
});
