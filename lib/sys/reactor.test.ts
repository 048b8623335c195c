// The loop itself: events, tasks, flushes and timers, on a clock of our own where time matters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SysError } from "./errors.ts";
import { createEventFd, drainEventFd, signalEventFd } from "./eventfd.ts";
import { closeFd } from "./netns.ts";
import { EPOLLIN, EPOLLOUT, Reactor } from "./reactor.ts";

/** A reactor whose clock stands still until told. */
function reactorAt(start = 0) {
  const time = { now: start };
  const reactor = new Reactor(() => time.now);
  const pass = (ms: number): void => {
    time.now += ms;
    reactor.turn(0);
  };
  /** In steps, as a busy thread turns. */
  const passSlowly = (ms: number): void => {
    for (let i = 0; i < ms; i += 50) pass(50);
  };
  return { reactor, pass, passSlowly };
}

test("a handler hears of its descriptor until it is removed", () => {
  using reactor = new Reactor();
  const fd = createEventFd();
  let heard = 0;
  reactor.add(fd, EPOLLIN, {
    onReady: () => {
      heard++;
      drainEventFd(fd);
    },
  });
  reactor.turn(0);
  assert.equal(heard, 0);
  signalEventFd(fd);
  reactor.turn(0);
  reactor.turn(0);
  assert.equal(heard, 1);
  reactor.modify(fd, EPOLLIN | EPOLLOUT);
  reactor.turn(0);
  assert.equal(heard, 2);
  reactor.remove(fd);
  signalEventFd(fd);
  reactor.turn(0);
  assert.equal(heard, 2);
  closeFd(fd);
});

test("what the kernel refuses is named", () => {
  using reactor = new Reactor();
  const isSysError = (code: string) => (error: unknown) =>
    error instanceof SysError && error.code === code;
  assert.throws(() => reactor.add(999_999, EPOLLIN, { onReady: () => {} }), isSysError("EBADF"));
  const fd = createEventFd();
  reactor.add(fd, EPOLLIN, { onReady: () => {} });
  assert.throws(() => reactor.add(fd, EPOLLIN, { onReady: () => {} }), isSysError("EEXIST"));
  reactor.remove(fd);
  assert.throws(() => reactor.modify(fd, EPOLLIN), isSysError("ENOENT"));
  closeFd(fd);
});

test("an event of a closed descriptor does not reach the next owner of its number", () => {
  using reactor = new Reactor();
  const fds = [createEventFd(), createEventFd()];
  let strays = 0;
  let ends = 0;
  for (const fd of fds) {
    signalEventFd(fd);
    const onReady = (): void => {
      ends++;
      const other = fds.find((f) => f !== fd) ?? -1;
      reactor.forget(other);
      closeFd(other);
      const reused = createEventFd();
      assert.equal(reused, other, "the kernel gives the lowest number");
      reactor.add(reused, EPOLLIN, { onReady: () => void strays++ });
    };
    reactor.add(fd, EPOLLIN, { onReady });
  }
  reactor.turn(0);
  assert.equal(ends, 1);
  assert.equal(strays, 0);
  for (const fd of fds) closeFd(fd);
});

test("a task asked for in a turn runs in the next, once, and keeps the loop awake", () => {
  using reactor = new Reactor();
  const runs: string[] = [];
  const task = { isQueued: false, onTurn: (): void => void runs.push("task") };
  reactor.again(task);
  reactor.again(task);
  assert.equal(task.isQueued, true);
  reactor.turn(-1); // would wait for ever without the task
  assert.deepEqual(runs, ["task"]);
  const again = {
    isQueued: false,
    onTurn: (): void => {
      runs.push("again");
      reactor.again(again);
    },
  };
  reactor.again(again);
  reactor.turn(0);
  reactor.turn(0);
  assert.deepEqual(runs, ["task", "again", "again"]);
});

test("flushes come at the end of the turn, once for many requests", () => {
  using reactor = new Reactor();
  const order: string[] = [];
  const item = { isDirty: false, flush: (): void => void order.push("flush") };
  reactor.again({
    isQueued: false,
    onTurn: () => {
      reactor.flushLater(item);
      order.push("task");
      reactor.flushLater(item);
    },
  });
  reactor.beforeSleep = (): void => void order.push("before sleep");
  reactor.turn(0);
  assert.deepEqual(order, ["task", "flush", "before sleep"]);
});

test("timers run in time, not before", () => {
  const { reactor, pass } = reactorAt();
  using _ = reactor;
  const ran: number[] = [];
  for (const ms of [0, 50, 51, 100, 1_000]) reactor.after(ms, () => ran.push(ms));
  pass(49);
  assert.deepEqual(ran, []);
  pass(1);
  assert.deepEqual(
    ran.toSorted((a, b) => a - b),
    [0, 50],
  );
  pass(50);
  assert.equal(ran.length, 4);
  pass(899);
  assert.equal(ran.length, 4);
  pass(1);
  assert.equal(ran.length, 5);
});

test("timers beyond a turn of the wheel, and at its very length, run once and in time", () => {
  for (const ms of [51_150, 51_200, 51_250, 102_400, 300_000, 3_600_000])
    for (const inOneGo of [true, false]) {
      const { reactor, pass, passSlowly } = reactorAt(12_345);
      using _ = reactor;
      let ran = 0;
      reactor.after(ms, () => ran++);
      if (inOneGo) pass(ms - 50);
      else passSlowly(ms - 50);
      assert.equal(ran, 0, `${ms} ms, early`);
      pass(50);
      assert.equal(ran, 1, `${ms} ms, in time`);
      pass(2 * ms);
      assert.equal(ran, 1, `${ms} ms, once`);
    }
});

test("a timer set after a long sleep counts from now", () => {
  let now = 0;
  using reactor = new Reactor(() => now);
  const fd = createEventFd();
  let ran = 0;
  reactor.add(fd, EPOLLIN, {
    onReady: () => {
      drainEventFd(fd);
      reactor.after(10_000, () => ran++);
    },
  });
  now = 3_600_000; // slept for an hour, with no timer to wake for
  signalEventFd(fd);
  reactor.turn(0);
  reactor.turn(0);
  assert.equal(ran, 0);
  now += 9_900;
  reactor.turn(0);
  assert.equal(ran, 0);
  now += 150;
  reactor.turn(0);
  assert.equal(ran, 1);
  closeFd(fd);
});

test("a cancelled timer does not run, whoever cancels it, and cancelling twice is nothing", () => {
  const { reactor, pass } = reactorAt();
  using _ = reactor;
  let ran = 0;
  const timers = Array.from({ length: 20 }, () => reactor.after(500, () => ran++));
  for (const timer of timers.slice(5, 15)) timer.cancel();
  for (const timer of timers.slice(5, 15)) timer.cancel();
  pass(600);
  assert.equal(ran, 10);
  for (const timer of timers) timer.cancel(); // those that ran, too
  // from a timer of the same slot
  const pair = [0, 1].map((i) =>
    reactor.after(500, () => {
      ran++;
      pair[1 - i]?.cancel();
    }),
  );
  pass(600);
  assert.equal(ran, 11);
});

test("a callback may set timers, its own again included", () => {
  const { reactor, passSlowly } = reactorAt();
  using _ = reactor;
  let ticks = 0;
  const tick = (): void => {
    ticks++;
    reactor.after(1_000, tick);
  };
  reactor.after(1_000, tick);
  passSlowly(10_500);
  assert.equal(ticks, 10);
});

test("a turn waits no longer than until the next timer, and not at all when there is work", () => {
  using reactor = new Reactor();
  let isDone = false;
  const start = performance.now();
  reactor.after(100, () => {
    isDone = true;
    reactor.stop();
  });
  reactor.run();
  assert.ok(isDone);
  assert.ok(performance.now() - start < 2_000);
});

test("nested in Node's loop it turns for events, tasks and timers", async () => {
  using reactor = new Reactor();
  reactor.nest();
  const fd = createEventFd();
  const heard = Promise.withResolvers<string>();
  reactor.add(fd, EPOLLIN, {
    onReady: () => {
      drainEventFd(fd);
      reactor.again({ isQueued: false, onTurn: () => heard.resolve("event and task") });
    },
  });
  setImmediate(() => signalEventFd(fd));
  assert.equal(await heard.promise, "event and task");
  const timed = Promise.withResolvers<string>();
  reactor.after(60, () => timed.resolve("timer"));
  assert.equal(await timed.promise, "timer");
  reactor.remove(fd);
  closeFd(fd);
});

test("a disposed reactor lets Node's loop end", async () => {
  const reactor = new Reactor();
  reactor.nest();
  reactor[Symbol.dispose]();
  await new Promise((resolve) => setImmediate(resolve));
});
