// A listener that runs out of descriptors says so, waits, and goes on: the thread and its tunnels live.
import assert from "node:assert/strict";
import { test } from "node:test";
import { nativeBuffer } from "#lib/sys/memory.ts";
import { closeFd, homeNetns } from "#lib/sys/netns.ts";
import { declareFunction } from "#lib/sys/raw.ts";
import { connectFd, localAddr, tcpSocket } from "#lib/sys/socket.ts";
import type { Failure } from "#lib/proxy/telemetry/connection.ts";
import { Loopback, LOOPBACK } from "../../test/harness/loopback.ts";
import { Listener, type Pod } from "./pod.ts";

const RLIMIT_NOFILE = 7;
const limits = nativeBuffer(16); // struct rlimit: soft, hard
const getrlimit = declareFunction<(resource: number, limit: number) => number>(
  "int getrlimit(int resource, uintptr_t limit)",
);
const setrlimit = declareFunction<(resource: number, limit: number) => number>(
  "int setrlimit(int resource, uintptr_t limit)",
);

test("out of descriptors, a listener pauses and says why, then accepts those who waited", async () => {
  let nowMs = 0;
  using loop = new Loopback(() => nowMs);
  const refusals: Failure[] = [];
  const accepted: number[] = [];
  const pod = {
    netns: homeNetns(),
    context: {
      reactor: loop.reactor,
      config: { ipv6Enabled: false, reusePort: false, origSrc: false, keepalive: null },
      telemetry: {
        refuse: (_direction: string, _source: unknown, _to: unknown, failure: Failure) =>
          refusals.push(failure),
      },
    },
  } as unknown as Pod;
  const listener = new Listener(pod, 0, false, (_pod, fd) => accepted.push(fd));
  const { port } = localAddr(listener.fd);
  const clients = [0, 1, 2].map(() => {
    const fd = tcpSocket({ family: "ipv4" });
    assert.equal(connectFd(fd, { ip: LOOPBACK, port }), 0);
    return fd;
  });
  getrlimit(RLIMIT_NOFILE, limits.address);
  const soft = limits.bytes.readBigUInt64LE(0);
  const setSoft = (value: bigint): void => {
    limits.bytes.writeBigUInt64LE(value, 0);
    setrlimit(RLIMIT_NOFILE, limits.address);
  };
  setSoft(1n);
  try {
    for (let i = 0; i < 10; i++) loop.reactor.turn(10);
    assert.equal(accepted.length, 0);
    assert.equal(refusals.length, 1, "said once, not in every turn");
    assert.match(refusals[0]?.detail ?? "", /EMFILE; accepting again in 100 ms/);
  } finally {
    setSoft(soft);
  }
  nowMs += 150;
  await loop.until(() => accepted.length === 3, "those who waited");
  listener.close();
  for (const fd of [...clients, ...accepted]) closeFd(fd);
});
