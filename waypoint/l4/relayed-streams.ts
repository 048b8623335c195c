// The two HBONE streams of a relayed connection. They only tell their connection what happens to them.
import type { HboneError } from "#lib/hbone/errors.ts";
import { RelayStream } from "#lib/proxy/relay.ts";
import { ERROR } from "#lib/wire/http2.ts";

export interface RelayOwner {
  /** The client's last byte has been handed on. */
  onClientPassed(): void;
  /** The client, or its tunnel, is gone, and what it sent before has been handed on. */
  onClientGone(code: number, error: HboneError | null): void;
  onBackendAnswer(stream: BackendStream, status: number): void;
  onBackendPassed(): void;
  /** The backend refused, reset or was lost. What it sent before has been handed on. */
  onBackendGone(stream: BackendStream, code: number, error: HboneError | null): void;
}

/** A peer that is done rather than broken: what it sent so far still counts. */
export function isOrderly(code: number, error: HboneError | null): boolean {
  return error === null && (code === ERROR.NO_ERROR || code === ERROR.CANCEL);
}

export class ClientStream extends RelayStream {
  readonly #owner: RelayOwner;
  /** Reset in order while something was still to be handed on. */
  #resetCode = -1;

  constructor(owner: RelayOwner) {
    super();
    this.#owner = owner;
  }

  onResponse(): void {
    // a server gets no responses
  }

  onReset(code: number, error: HboneError | null): void {
    if (!isOrderly(code, error) || !this.isHolding) return this.#owner.onClientGone(code, error);
    this.#resetCode = code;
    this.isRemoteEnded = true;
  }

  protected onPassed(): void {
    if (this.#resetCode < 0) this.#owner.onClientPassed();
    else this.#owner.onClientGone(this.#resetCode, null);
  }
}

/** One attempt at a backend. */
export class BackendStream extends RelayStream {
  readonly #owner: RelayOwner;
  #resetCode = -1;

  constructor(owner: RelayOwner) {
    super();
    this.#owner = owner;
  }

  onResponse(status: number): void {
    this.#owner.onBackendAnswer(this, status);
  }

  onReset(code: number, error: HboneError | null): void {
    if (!isOrderly(code, error) || !this.isHolding)
      return this.#owner.onBackendGone(this, code, error);
    this.#resetCode = code;
    this.isRemoteEnded = true;
  }

  protected onPassed(): void {
    if (this.#resetCode < 0) this.#owner.onBackendPassed();
    else this.#owner.onBackendGone(this, this.#resetCode, null);
  }
}
