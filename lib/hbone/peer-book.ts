// The accounts of all peers of one thread. A peer is a workload: an identity at an address, whatever the number of
// its tunnels. Peers without a tunnel are remembered as long as their budgets may still be short, up to a bound.
import type { Ip } from "#lib/net/ip.ts";
import { PEER_MEMORY_MS, PEERS_REMEMBERED } from "./limits.ts";
import { PeerAccount } from "./peer-account.ts";

interface Rested {
  readonly account: PeerAccount;
  readonly sinceMs: number;
}

export class PeerBook {
  /** Peers with open tunnels or held bytes: as many as those. */
  readonly #active = new Map<string, PeerAccount>();
  /** Peers without, the one gone longest first. */
  readonly #rested = new Map<string, Rested>();

  /** A tunnel of this peer has opened: the account its predecessors left. @param uriSans verified */
  enter(uriSans: readonly string[], ip: Ip, steadyMs: number): PeerAccount {
    const key = `${uriSans.join(" ")}@${ip}`;
    let account = this.#active.get(key);
    if (account !== undefined) return account;
    this.#forgetOld(steadyMs);
    account = this.#rested.get(key)?.account;
    this.#rested.delete(key);
    account ??= new PeerAccount((idle, nowMs) => this.#rest(key, idle, nowMs));
    this.#active.set(key, account);
    return account;
  }

  /** Accounts kept. */
  get size(): number {
    return this.#active.size + this.#rested.size;
  }

  #rest(key: string, account: PeerAccount, steadyMs: number): void {
    this.#active.delete(key);
    this.#forgetOld(steadyMs);
    this.#rested.set(key, { account, sinceMs: steadyMs });
    if (this.#rested.size <= PEERS_REMEMBERED) return;
    for (const [oldest] of this.#rested) {
      this.#rested.delete(oldest);
      return;
    }
  }

  #forgetOld(steadyMs: number): void {
    for (const [key, { sinceMs }] of this.#rested) {
      if (steadyMs - sinceMs < PEER_MEMORY_MS) return;
      this.#rested.delete(key);
    }
  }
}
