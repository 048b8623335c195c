// The whole of one table as response bytes, made once for all clients that start with nothing.
import type { OutgoingResource } from "#lib/grpc/delta-messages.ts";
import { encodeResponse, type EncodedPush } from "./encoded-push.ts";

export class FullAnswers {
  #version = -1;
  readonly #answers = new Map<string, EncodedPush[]>();

  /** @param version number of the state; another one drops what was made before */
  get(
    typeUrl: string,
    table: ReadonlyMap<string, OutgoingResource>,
    version: number,
    nonce: () => string,
  ): readonly EncodedPush[] {
    if (version !== this.#version) this.clear();
    this.#version = version;
    let answer = this.#answers.get(typeUrl);
    if (answer === undefined) {
      // In order of their names, not of their arrival: every replica says the same, byte for byte.
      const resources = [...table.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
      const response = { typeUrl, nonce: nonce(), systemVersion: String(version), resources };
      answer = encodeResponse({ ...response, removed: [] }, nonce);
      this.#answers.set(typeUrl, answer);
    }
    return answer;
  }

  clear(): void {
    this.#answers.clear();
  }
}
