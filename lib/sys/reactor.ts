// The loop that moves bytes: epoll, tasks that want another turn, one flush per dirty tunnel and
// turn, and coarse timers. Two drivers: `run` blocks a worker thread in epoll_wait (ztunnel);
// `nest` lets Node's event loop turn it (waypoint, tests).
import { check, EINTR, lastErrno, SysError } from "./errors.ts";
import { nativeBuffer } from "./memory.ts";
import * as raw from "./raw.ts";

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x8000_0000;

const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLL_CLOEXEC = 0o2000000;
const MAX_EVENTS = 512;
/**
 * struct epoll_event is packed on x86-64 alone: u32 events, then 64 bits of data, which hold the fd and a
 * stamp: an event of a descriptor closed earlier in the same turn must not reach the next owner of its number.
 */
const PACKED = process.arch === "x64";
const EVENT_SIZE = PACKED ? 12 : 16;
const EVENT_WORDS = EVENT_SIZE / 4;
const FD_WORD = PACKED ? 1 : 2;
const STAMP_WORD = FD_WORD + 1;

const TICK_MS = 50;
const WHEEL_SLOTS = 1024;

export interface FdHandler {
  /** Hot path. `events` is the epoll mask. */
  onReady(events: number): void;
}

/** Work that ran out of its turn budget and goes on in the next turn. */
export interface Task {
  /** Set while the task waits in the list; only the reactor writes it. */
  isQueued: boolean;
  onTurn(): void;
}

/** Something with output to flush at the end of the turn. */
export interface Flushable {
  /** Set while it waits for its flush; only the reactor writes it. */
  isDirty: boolean;
  flush(): void;
}

/** A pending call; `cancel` is idempotent and frees its place at once. */
export class Timer {
  readonly callback: () => void;
  /** Turns of the wheel still to go. */
  rounds: number;
  #slot: Timer[] | null = null;
  #index = 0;

  constructor(callback: () => void, rounds: number) {
    this.callback = callback;
    this.rounds = rounds;
  }

  /** Only the reactor places a timer. */
  place(slot: Timer[]): void {
    this.#slot = slot;
    this.#index = slot.push(this) - 1;
  }

  cancel(): void {
    const slot = this.#slot;
    if (slot === null) return;
    this.#slot = null;
    const last = slot.pop();
    if (last === undefined || last === this) return;
    slot[this.#index] = last;
    last.#index = this.#index;
  }

  /** Leaves the wheel; `false` when it was cancelled meanwhile. */
  take(): boolean {
    const isPlaced = this.#slot !== null;
    this.#slot = null;
    return isPlaced;
  }
}

/** Owns its epoll descriptor; borrows every descriptor added to it. */
export class Reactor implements Disposable {
  readonly #ep: number;
  readonly #handlers: (FdHandler | undefined)[] = [];
  /** By descriptor: which of its registrations is the current one. */
  readonly #stamps: number[] = [];
  #lastStamp = 0;
  readonly #steadyClock: () => number;
  readonly #events = nativeBuffer(EVENT_SIZE * MAX_EVENTS);
  readonly #words = new Int32Array(
    this.#events.bytes.buffer,
    this.#events.bytes.byteOffset,
    (EVENT_SIZE * MAX_EVENTS) / 4,
  );
  readonly #event = nativeBuffer(16);
  readonly #eventWords = new Int32Array(this.#event.bytes.buffer, this.#event.bytes.byteOffset, 4);
  #tasks: Task[] = [];
  #tasksNow: Task[] = [];
  #dirty: Flushable[] = [];
  #dirtyNow: Flushable[] = [];
  readonly #wheel: Timer[][] = Array.from({ length: WHEEL_SLOTS }, () => []);
  #slot = 0;
  /** On the steady clock: when the wheel reached `#slot`. */
  #slotTimeMs: number;
  #isStopped = false;
  #unnest: (() => void) | null = null;
  /** Called at the end of each turn that did something. */
  beforeSleep: (() => void) | null = null;
  /** Turns so far. */
  turns = 0;
  /** Milliseconds since the epoch at the start of this turn. */
  nowMs: number = Date.now();
  /** Milliseconds of a clock that only runs forward, at the start of this turn. For durations. */
  steadyMs: number;

  /** @param steadyClock drives the timers; milliseconds */
  constructor(steadyClock: () => number = () => performance.now()) {
    this.#steadyClock = steadyClock;
    this.steadyMs = steadyClock();
    this.#slotTimeMs = this.steadyMs;
    this.#ep = check("epoll_create1", raw.epollCreate1(EPOLL_CLOEXEC));
  }

  /** @throws {SysError} */
  add(fd: number, events: number, handler: FdHandler): void {
    this.#handlers[fd] = handler;
    this.#lastStamp = (this.#lastStamp + 1) | 0;
    this.#stamps[fd] = this.#lastStamp;
    this.#control(EPOLL_CTL_ADD, fd, events);
  }

  /** @throws {SysError} */
  modify(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  /** Forgets a descriptor that is closed right after: the kernel drops it then by itself. */
  forget(fd: number): void {
    this.#handlers[fd] = undefined;
  }

  /** Takes a descriptor out that stays open, or is open elsewhere too. */
  remove(fd: number): void {
    this.#handlers[fd] = undefined;
    raw.epollCtl(this.#ep, EPOLL_CTL_DEL, fd, this.#event.address);
  }

  /** Runs `task` in the next turn, without waiting for events first. */
  again(task: Task): void {
    if (task.isQueued) return;
    task.isQueued = true;
    this.#tasks.push(task);
  }

  /** Flushes `item` at the end of this turn. */
  flushLater(item: Flushable): void {
    if (item.isDirty) return;
    item.isDirty = true;
    this.#dirty.push(item);
  }

  /** Calls back after `ms`, to the next 50 ms. */
  after(ms: number, callback: () => void): Timer {
    // the wheel may be behind: it stands still while nothing is due
    const behindMs = Math.max(0, this.#steadyClock() - this.#slotTimeMs);
    const ticks = Math.max(1, Math.ceil((behindMs + ms) / TICK_MS));
    const timer = new Timer(callback, Math.floor((ticks - 1) / WHEEL_SLOTS));
    const slot = this.#wheel[(this.#slot + ticks) % WHEEL_SLOTS];
    if (slot !== undefined) timer.place(slot);
    return timer;
  }

  /** Blocks this thread until `stop`. */
  run(): void {
    while (!this.#isStopped) this.turn(this.#idleMs());
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Lets Node's event loop drive: turns whenever a descriptor is ready, and while work is left. */
  nest(): void {
    const drive = (): void => {
      if (this.#isStopped) return;
      for (let i = 0; i < 4; i++) this.turn(0);
      if (this.#tasks.length > 0 || this.#dirty.length > 0) setImmediate(drive);
    };
    const unpoll = raw.pollReadable(this.#ep, drive);
    const tick = setInterval(drive, TICK_MS);
    this.#unnest = () => {
      unpoll();
      clearInterval(tick);
    };
  }

  /** One round: events, tasks, timers, flushes. @param timeoutMs how long to wait for events; -1 for ever */
  turn(timeoutMs: number): void {
    const wait = this.#tasks.length > 0 || this.#dirty.length > 0 ? 0 : timeoutMs;
    const count = raw.epollWait(this.#ep, this.#events.address, MAX_EVENTS, wait);
    if (count < 0 && lastErrno() !== EINTR) throw new SysError("epoll_wait", lastErrno());
    this.turns++;
    this.nowMs = Date.now();
    this.steadyMs = this.#steadyClock();
    const words = this.#words;
    for (let i = 0; i < count; i++) {
      const at = i * EVENT_WORDS;
      const fd = words[at + FD_WORD] ?? 0;
      if (words[at + STAMP_WORD] === this.#stamps[fd]) this.#handlers[fd]?.onReady(words[at] ?? 0);
    }
    if (this.#tasks.length > 0) this.#runTasks();
    if (this.steadyMs - this.#slotTimeMs >= TICK_MS) this.#runTimers();
    if (this.#dirty.length > 0) this.#runFlushes();
    this.beforeSleep?.();
  }

  [Symbol.dispose](): void {
    this.#isStopped = true;
    this.#unnest?.();
    this.#unnest = null;
    raw.close(this.#ep);
  }

  #runTasks(): void {
    const tasks = this.#tasks;
    this.#tasks = this.#tasksNow;
    this.#tasksNow = tasks;
    for (const task of tasks) {
      task.isQueued = false;
      task.onTurn();
    }
    clear(tasks);
  }

  #runFlushes(): void {
    const dirty = this.#dirty;
    this.#dirty = this.#dirtyNow;
    this.#dirtyNow = dirty;
    for (const item of dirty) {
      item.isDirty = false;
      item.flush();
    }
    clear(dirty);
  }

  /** Until the next slot that holds a timer; for ever when there is none. */
  #idleMs(): number {
    for (let ahead = 1; ahead <= WHEEL_SLOTS; ahead++) {
      const slot = this.#wheel[(this.#slot + ahead) % WHEEL_SLOTS];
      if (slot !== undefined && slot.length > 0)
        return Math.max(1, Math.ceil(this.#slotTimeMs + ahead * TICK_MS - this.#steadyClock()));
    }
    return -1;
  }

  #runTimers(): void {
    while (this.steadyMs - this.#slotTimeMs >= TICK_MS) {
      this.#slotTimeMs += TICK_MS;
      this.#slot = (this.#slot + 1) % WHEEL_SLOTS;
      const due = this.#wheel[this.#slot];
      if (due === undefined || due.length === 0) continue;
      const later: Timer[] = [];
      this.#wheel[this.#slot] = later;
      while (due.length > 0) {
        const timer = due.pop();
        if (timer === undefined || !timer.take()) continue;
        if (timer.rounds-- > 0) timer.place(later);
        else timer.callback();
      }
    }
  }

  #control(op: number, fd: number, events: number): void {
    this.#eventWords[0] = events;
    this.#eventWords[FD_WORD] = fd;
    this.#eventWords[STAMP_WORD] = this.#stamps[fd] ?? 0;
    check("epoll_ctl", raw.epollCtl(this.#ep, op, fd, this.#event.address), `fd ${fd}`);
  }
}

/** For the few entries of a turn cheaper than `length = 0`, which V8 hands to its runtime. */
function clear(list: unknown[]): void {
  while (list.length > 0) list.pop();
}
