// Numbers that never skip, the newest that fit, and what nobody saw.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { EVENT_RING_SIZE, EventRing } from "./event-ring.ts";

function push(ring: EventRing, count: number): void {
  for (let i = 0; i < count; i++) ring.push({ view: (seq) => ({ seq }) as TunnelEvent });
}

const numbers = (ring: EventRing, since: number): number[] => ring.since(since).map((e) => e.seq);

test("events are numbered from one, and read from any number on", () => {
  const ring = new EventRing();
  assert.deepEqual(numbers(ring, 0), []);
  push(ring, 3);
  assert.deepEqual(numbers(ring, 0), [1, 2, 3]);
  assert.deepEqual(numbers(ring, 2), [3]);
  assert.deepEqual(numbers(ring, 3), []);
  assert.deepEqual(numbers(ring, 99), []);
  assert.deepEqual(numbers(ring, -5), [1, 2, 3]);
});

test("of more than fit, the newest are there", () => {
  const ring = new EventRing();
  push(ring, 2 * EVENT_RING_SIZE + 10);
  const got = numbers(ring, 0);
  assert.equal(got.length, EVENT_RING_SIZE);
  assert.deepEqual([got[0], got.at(-1)], [EVENT_RING_SIZE + 11, 2 * EVENT_RING_SIZE + 10]);
});

test("nothing is lost while nobody looks", () => {
  const ring = new EventRing();
  push(ring, 3 * EVENT_RING_SIZE);
  assert.equal(ring.lost, 0);
});

test("once somebody looks, what is overwritten before the next look is counted", () => {
  const ring = new EventRing();
  push(ring, 10);
  ring.since(0);
  push(ring, EVENT_RING_SIZE);
  assert.equal(ring.lost, 0, "just fits");
  push(ring, 5);
  assert.equal(ring.lost, 5);
  ring.since(0);
  push(ring, EVENT_RING_SIZE);
  assert.equal(ring.lost, 5);
});

test("views are made only for who asks", () => {
  const ring = new EventRing();
  let views = 0;
  const event = {
    view: (seq: number) => {
      views++;
      return { seq } as TunnelEvent;
    },
  };
  for (let i = 0; i < 100; i++) ring.push(event);
  assert.equal(views, 0);
  ring.since(98);
  assert.equal(views, 2);
});
