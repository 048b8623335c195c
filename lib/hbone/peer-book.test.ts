// What is remembered of a peer between its tunnels, for how long, and how its tunnels share what it may make us hold.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "#lib/net/ip.ts";
import * as limit from "./limits.ts";
import type { PeerAccount } from "./peer-account.ts";
import { PeerBook } from "./peer-book.ts";

const ALICE = ["spiffe://cluster.local/ns/shop/sa/alice"];
const BOB = ["spiffe://cluster.local/ns/shop/sa/bob"];
const HERE = parseIp("10.0.0.1");
const THERE = parseIp("10.0.0.2");

/** A tunnel of a peer, as its account sees it. */
function open(book: PeerBook, who: readonly string[], ip = HERE, atMs = 0) {
  const account = book.enter(who, ip, atMs);
  const window = account.promise(0);
  return { account, window, close: (nowMs: number) => account.leave(window, nowMs) };
}

function overdraw(account: PeerAccount, atMs: number): void {
  while (account.resets.spend(atMs));
}

test("a peer that comes back finds its budgets as it left them, refilled by the time away", () => {
  const book = new PeerBook();
  const first = open(book, ALICE, HERE, 1_000);
  overdraw(first.account, 1_000);
  first.close(1_000);
  const again = open(book, ALICE, HERE, 1_100);
  assert.equal(again.account.resets.spend(1_000), false);
  let left = 0;
  while (again.account.resets.spend(2_000)) left++;
  assert.equal(left, limit.RESET_BUDGET.perSecond);
});

test("tunnels of one peer at the same time share one account", () => {
  const book = new PeerBook();
  assert.equal(open(book, ALICE).account, open(book, ALICE).account);
  assert.equal(book.size, 1);
});

test("another identity, or another address, is another peer", () => {
  const book = new PeerBook();
  overdraw(open(book, ALICE).account, 1);
  assert.ok(open(book, BOB).account.resets.spend(1));
  assert.ok(open(book, ALICE, THERE).account.resets.spend(1));
});

test("a peer is forgotten a minute after its last tunnel: by then its budgets are full", () => {
  for (const { burst, perSecond } of [
    limit.CONTROL_BUDGET,
    limit.RESET_BUDGET,
    limit.DENIAL_BUDGET,
  ])
    assert.ok((burst / perSecond) * 1_000 < limit.PEER_MEMORY_MS);
  const book = new PeerBook();
  const first = open(book, ALICE);
  const { account } = first;
  first.close(5_000);
  assert.equal(open(book, ALICE, HERE, 64_000).account, account);
  account.leave(limit.CONNECTION_WINDOW, 64_000);
  assert.notEqual(open(book, ALICE, HERE, 124_000).account, account);
});

test("the book does not grow with the number of peers that came and went", () => {
  const book = new PeerBook();
  for (let n = 0; n < limit.PEERS_REMEMBERED * 2; n++)
    open(book, [`spiffe://a/ns/b/sa/${n}`]).close(n / 1_000);
  assert.equal(book.size, limit.PEERS_REMEMBERED);
  open(book, ALICE, HERE, 600_000).close(600_000);
  assert.equal(book.size, 1);
});

test("a peer whose bytes are still held is remembered however long that takes", () => {
  const book = new PeerBook();
  const first = open(book, ALICE);
  first.account.held = 1_000;
  first.close(0);
  assert.equal(open(book, ALICE, HERE, 3_600_000).account, first.account);
  first.account.leave(first.window, 3_600_000);
  first.account.release(1_000, 3_600_000);
  assert.notEqual(open(book, ALICE, HERE, 7_200_000).account, first.account);
});

test("each further tunnel gets less of the window, all of them together never more than a bound", () => {
  const book = new PeerBook();
  const windows = Array.from({ length: 300 }, () => open(book, ALICE).window);
  assert.equal(windows[0], limit.CONNECTION_WINDOW);
  assert.ok((windows[15] ?? 0) > 4_000_000);
  assert.equal(windows[299], 65_535, "as large as HTTP/2 has it before anything is said");
  const total = windows.reduce((sum, size) => sum + size, 0);
  assert.ok(total <= limit.PEER_WINDOWS_MAX + 300 * 65_535);
});

test("held bytes shrink what a new tunnel gets, and a tunnel grows when they are gone", () => {
  const book = new PeerBook();
  const { account } = open(book, ALICE);
  account.held = limit.PEER_WINDOWS_MAX;
  const second = open(book, ALICE);
  assert.equal(second.window, 65_535);
  account.release(limit.PEER_WINDOWS_MAX, 0);
  assert.ok(account.promise(second.window) > 15_000_000);
});
