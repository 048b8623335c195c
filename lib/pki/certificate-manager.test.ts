import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "#lib/base/clock.ts";
import { createLogger } from "#lib/obs/log.ts";
import type { CertificateMaterial } from "./certificate-material.ts";
import { renewalTime } from "./certificate-entry.ts";
import { CertificateManager } from "./certificate-manager.ts";

const LIFETIME = 86_400_000;
const log = createLogger({ scope: "test", level: "silent", format: "json" });

/** Time that moves only when told. */
class FakeClock implements Clock {
  #now = 1_000_000_000;
  readonly #sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();

  now(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const sleeper = {
        at: this.#now + ms,
        wake: () => {
          this.#sleepers.delete(sleeper);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", sleeper.wake, { once: true });
    });
  }

  /** Moves on in small steps, letting everything that becomes due run. */
  async advance(ms: number, step = 1_000): Promise<void> {
    await settle();
    const end = this.#now + ms;
    while (this.#now < end) {
      this.#now = Math.min(end, this.#now + step);
      for (const sleeper of this.#sleepers) if (sleeper.at <= this.#now) sleeper.wake();
      await settle();
    }
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 4; i++) await turn();
}

/** A signer that answers when the test says so. */
class FakeSigner {
  readonly calls: string[] = [];
  readonly #open: {
    readonly identity: string;
    readonly signal: AbortSignal;
    readonly resolve: (material: CertificateMaterial) => void;
    readonly reject: (error: Error) => void;
  }[] = [];
  /** null: wait for `answer`. */
  auto: ((identity: string) => CertificateMaterial) | null = null;
  fetches = (identity: string, signal: AbortSignal): Promise<CertificateMaterial> => {
    this.calls.push(identity);
    if (this.auto !== null) {
      const { auto } = this;
      return new Promise((resolve) => resolve(auto(identity)));
    }
    return new Promise((resolve, reject) => this.#open.push({ identity, signal, resolve, reject }));
  };

  get inFlight(): string[] {
    return this.#open.map((o) => o.identity);
  }

  async answer(identity: string, with_: CertificateMaterial | Error): Promise<void> {
    const at = this.#open.findIndex((o) => o.identity === identity);
    const [call] = this.#open.splice(at, 1);
    assert.ok(call, `${identity} was not asked for`);
    if (with_ instanceof Error) call.reject(with_);
    else call.resolve(with_);
    await settle();
  }
}

function material(identity: string, notBefore: number, lifetime = LIFETIME): CertificateMaterial {
  const empty = new Uint8Array();
  const notAfter = notBefore + lifetime;
  return { identity, leaf: empty, chain: [], privateKey: empty, roots: [], notBefore, notAfter };
}

function setup(random = 0.5) {
  const clock = new FakeClock();
  const signer = new FakeSigner();
  const events: string[] = [];
  const stop = new AbortController();
  const manager = new CertificateManager({
    fetch: signer.fetches,
    onAvailable: (m) => events.push(`available ${m.identity}`),
    onUnavailable: (identity, reason) => events.push(`unavailable ${identity}: ${reason}`),
    log,
    clock,
    random: () => random,
  });
  const running = manager.run(stop.signal);
  return {
    clock,
    signer,
    events,
    manager,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

for (const c of [
  { name: "half life in the middle", random: 0.5, now: 0, want: 50 },
  { name: "earliest", random: 0, now: 0, want: 45 },
  { name: "latest", random: 1, now: 0, want: 55 },
])
  test(`renewal time: ${c.name}`, () => {
    const hours = 3_600_000;
    const at = renewalTime({ notBefore: 0, notAfter: 100 * hours }, c.now, c.random);
    assert.equal(Math.round(at / hours), c.want);
  });

test("absurd dates are renewed soon, not in a busy loop", () => {
  assert.equal(renewalTime({ notBefore: 5, notAfter: 5 }, 100, 0.5), 1_100);
  assert.equal(renewalTime({ notBefore: Number.NaN, notAfter: 5 }, 100, 0.5), 1_100);
  assert.equal(renewalTime({ notBefore: 0, notAfter: 10 }, 100_000, 0.5), 101_000);
});

test("one fetch per identity, at most eight at a time, waiting connections first", async () => {
  await using t = setup();
  for (let i = 0; i < 10; i++) t.manager.prefetch(`warm${i}`);
  t.manager.prefetch("warm0");
  assert.equal(t.manager.need("real").state, "initializing");
  t.manager.need("warm9"); // a connection waits for a prefetch that is queued
  assert.equal(t.signer.inFlight.length, 8);
  await t.signer.answer("warm0", material("warm0", t.clock.now()));
  await t.signer.answer("warm1", material("warm1", t.clock.now()));
  await t.signer.answer("warm2", material("warm2", t.clock.now()));
  assert.deepEqual(t.signer.calls.slice(8), ["warm9", "real", "warm8"]);
  assert.equal(t.manager.need("warm0").state, "available");
  assert.equal(t.signer.calls.length, 11);
});

test("renewed at half life; the new certificate is announced", async () => {
  await using t = setup();
  t.signer.auto = (identity) => material(identity, t.clock.now());
  t.manager.prefetch("a");
  await t.clock.advance(LIFETIME / 2 - 60_000, 60_000);
  assert.equal(t.signer.calls.length, 1);
  await t.clock.advance(120_000, 60_000);
  assert.equal(t.signer.calls.length, 2);
  assert.deepEqual(t.events, ["available a", "available a"]);
});

test("a failing renewal keeps the valid certificate until it expires, then says so", async () => {
  await using t = setup();
  const lifetime = 600_000;
  t.signer.auto = (identity) => material(identity, t.clock.now(), lifetime);
  t.manager.prefetch("a");
  await t.clock.advance(1_000);
  t.signer.auto = () => {
    throw new Error("signer down");
  };
  await t.clock.advance(lifetime / 2 + 10_000);
  assert.ok(t.signer.calls.length >= 3, `${t.signer.calls.length} calls`);
  assert.deepEqual(t.events, ["available a"], "not replaced by an error");
  const view = t.manager.need("a");
  assert.deepEqual(
    [view.state, view.error, view.material !== null],
    ["available", "signer down", true],
  );
  await t.clock.advance(lifetime / 2);
  assert.equal(t.manager.need("a").state, "unavailable");
  assert.equal(t.events[1], "unavailable a: signer down");
  t.signer.auto = (identity) => material(identity, t.clock.now(), lifetime);
  await t.clock.advance(180_000);
  assert.equal(t.manager.need("a").state, "available");
});

test("failures back off: 1 s doubling to 150 s, and a connection in between changes nothing", async () => {
  await using t = setup();
  const times: number[] = [];
  t.signer.auto = () => {
    times.push(t.clock.now());
    throw new Error("no");
  };
  t.manager.need("a");
  for (let i = 0; i < 60; i++) {
    await t.clock.advance(10_000);
    assert.equal(t.manager.need("a").state, "unavailable");
  }
  const gaps = times.slice(1).map((at, i) => Math.round((at - (times[i] ?? 0)) / 1_000));
  assert.deepEqual(gaps.slice(0, 9), [1, 2, 4, 8, 16, 32, 64, 128, 150]);
});

test("a retry comes before the certificate expires, however long the backoff", async () => {
  await using t = setup();
  const lifetime = 200_000;
  t.signer.auto = (identity) => material(identity, t.clock.now(), lifetime);
  t.manager.prefetch("a");
  await t.clock.advance(1_000);
  t.signer.auto = () => {
    throw new Error("no");
  };
  await t.clock.advance(lifetime - 3_000);
  const before = t.signer.calls.length;
  await t.clock.advance(3_000);
  assert.equal(t.signer.calls.length, before + 1);
});

test("forgetting discards the certificate and a call under way", async () => {
  await using t = setup();
  t.manager.prefetch("a");
  t.manager.forget("a");
  await t.signer.answer("a", material("a", t.clock.now()));
  assert.deepEqual(t.events, []);
  assert.deepEqual(t.manager.views(), []);
  t.manager.prefetch("a");
  await t.signer.answer("a", material("a", t.clock.now()));
  assert.deepEqual(t.events, ["available a"]);
});

test("prefetches beyond the bound wait for a connection", async () => {
  await using t = setup();
  for (let i = 0; i < 400; i++) t.manager.prefetch(`id${i}`);
  assert.equal(t.manager.views().length, 8 + 256);
  assert.equal(t.manager.need("id399").state, "initializing");
  assert.equal(t.manager.views().length, 8 + 256 + 1);
});
