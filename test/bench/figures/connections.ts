// Memory: an idle proxy, then what each idle connection costs each side; and connections that each need
// a tunnel of their own.
import { setTimeout as sleep } from "node:timers/promises";
import { hold, runLoad, type Held } from "../load-run.ts";
import { cpuSeconds, memoryOf, MIB } from "../proc-usage.ts";
import type { Progress } from "../progress.ts";
import type { Results } from "../results.ts";
import type { Path, Stage } from "../stage.ts";

const COUNTS = [1_000, 4_000, 10_000];
/** Until collectors and allocators have given back what they will. */
const SETTLE_MS = 3_000;
const FRESH_CONNECTIONS = 300;
/** Unused tunnels are looked for every second. */
const RELEASED_MS = 3_000;

/** On proxies that have carried nothing but a first byte. */
export async function measureConnectionMemory(
  stage: Stage,
  results: Results,
  progress: Progress,
): Promise<void> {
  for (const path of [stage.path("hbone"), ...(stage.yardstick?.paths.slice(0, 1) ?? [])])
    await measurePath(path, results, progress);
  await stage.yardstick?.restart();
}

async function measurePath(path: Path, results: Results, progress: Progress): Promise<void> {
  await sleep(SETTLE_MS);
  const idle = path.carriers.map((c) => memoryOf(c.pid()));
  for (const [i, { side }] of path.carriers.entries()) {
    const { rss = 0, private: own = 0 } = idle[i] ?? {};
    results.add(`idle, ${side}'s proxy: private memory`, path.name, "MiB", own / MIB);
    results.add(`idle, ${side}'s proxy: RSS`, path.name, "MiB", rss / MIB);
  }
  const held: Held[] = [];
  try {
    let open = 0;
    for (const count of COUNTS) {
      progress.step(`${count} idle connections, ${path.name}`);
      held.push(await hold(path.from, path.target, count - open));
      open = count;
      await sleep(SETTLE_MS);
      for (const [i, { side, pid }] of path.carriers.entries())
        results.add(
          `${count} idle connections: private memory each, ${side}'s proxy`,
          path.name,
          "KiB",
          (memoryOf(pid()).private - (idle[i]?.private ?? 0)) / count / 1024,
        );
    }
  } finally {
    await Promise.all(held.map((h) => h[Symbol.asyncDispose]()));
  }
}

/** The client's ztunnel is restarted with one stream to a tunnel, and afterwards as it was. */
export async function measureFreshTunnels(
  stage: Stage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  const { lab } = stage;
  const path = stage.path("hbone");
  lab.mesh.setEnv("ztunnel", {
    POOL_MAX_STREAMS_PER_CONNECTION: "1",
    POOL_UNUSED_RELEASE_TIMEOUT: "100ms",
  });
  try {
    await lab.restart("ztunnel", "a");
    await runLoad(path.from, "connect", path.target, { connections: 1, seconds: 0.5 });
    for (let round = 0; round < rounds; round++) {
      await sleep(RELEASED_MS); // the last round's tunnels are released
      progress.step(`fresh tunnels, round ${round + 1} of ${rounds}`);
      const before = path.carriers.map((c) => cpuSeconds(c.pid()));
      await using held = await hold(path.from, path.target, FRESH_CONNECTIONS);
      const { operations, seconds, p50, p99 } = held.result;
      const figure = "new connections, each with a fresh tunnel";
      results.add(figure, path.name, "/s", operations / seconds);
      results.add(`${figure}: p50`, path.name, "µs", p50);
      results.add(`${figure}: p99`, path.name, "µs", p99);
      for (const [i, { side, pid }] of path.carriers.entries()) {
        const us = ((cpuSeconds(pid()) - (before[i] ?? 0)) * 1e6) / operations;
        results.add(`${figure}: CPU of the ${side}'s proxy`, path.name, "µs each", us);
      }
    }
  } finally {
    lab.mesh.setEnv("ztunnel", {});
    await lab.restart("ztunnel", "a");
  }
}
