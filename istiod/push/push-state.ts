// What all streams share: the tables, the number of the state, nonces, and bytes made for many.
import { randomBytes } from "node:crypto";
import type { EncodedPush } from "./encoded-push.ts";
import { FullAnswers } from "./full-answers.ts";
import type { MeshSource } from "./mesh-source.ts";
import { SendGate } from "./send-gate.ts";

/** Bytes of large answers under way at once, over all clients. 100 000 resources are some 30 MB. */
const LARGE_SEND_BYTES = 64 * 1024 * 1024;

export class PushState {
  readonly source: MeshSource;
  readonly gate = new SendGate(LARGE_SEND_BYTES);
  /** Counts changes; part of every nonce and the `system_version_info` of every response. */
  version = 0;
  readonly #instance = randomBytes(4).toString("hex");
  readonly #full = new FullAnswers();
  #nonces = 0;

  constructor(source: MeshSource) {
    this.source = source;
  }

  readonly nonce = (): string => `${this.#instance}/${this.version}/${++this.#nonces}`;

  /** The whole table of a type as responses to write. */
  everything(typeUrl: string): readonly EncodedPush[] {
    const table = this.source.table(typeUrl) ?? new Map();
    return this.#full.get(typeUrl, table, this.version, this.nonce);
  }

  /** The tables have changed: whatever was made of them is out of date. */
  advance(): void {
    this.version++;
    this.#full.clear();
  }
}
