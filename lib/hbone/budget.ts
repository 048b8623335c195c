// A budget of things a well-behaved peer does seldom. Spent faster than it refills, it ends the
// connection (ENHANCE_YOUR_CALM): rapid reset, MadeYouReset, SETTINGS, PING and empty-frame floods.
import type { BudgetSize } from "./limits.ts";

export class Budget {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #refilledAtMs = 0;

  /** `burst` is spendable at once, `perSecond` given back each second. */
  constructor({ burst, perSecond }: BudgetSize) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  /** Spends one; `false` when nothing is left. */
  spend(steadyMs: number): boolean {
    if (this.#left < 1) {
      const gained = ((steadyMs - this.#refilledAtMs) / 1000) * this.#perSecond;
      if (gained >= 1) {
        this.#left = Math.min(this.#burst, this.#left + gained);
        this.#refilledAtMs = steadyMs;
      }
      if (this.#left < 1) return false;
    } else if (this.#left === this.#burst) this.#refilledAtMs = steadyMs;
    this.#left--;
    return true;
  }
}
