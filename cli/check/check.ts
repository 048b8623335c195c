// What a check is: a stable id, when it applies, and what it finds. The tables are pre.ts, post.ts, namespace.ts.
import type { CheckContext } from "./context.ts";

/** Before an installation, after it, and for what users' namespaces hold. */
export const PHASES = ["pre", "post", "namespace"] as const;
export type Phase = (typeof PHASES)[number];

export interface Finding {
  /** One sentence, no final stop. */
  readonly text: string;
  /** `kind/name` or `kind/namespace/name` of what is wrong. */
  readonly object?: string;
  /** The command or change that helps. */
  readonly hint: string;
}

/** A check that does not apply here, and why. */
export interface NotApplicable {
  readonly skipped: string;
}

export interface Check {
  readonly id: `C${number}`;
  /** Of a finding. */
  readonly severity: "error" | "warning";
  /** What is true when nothing is found. */
  readonly title: string;
  run(context: CheckContext): Promise<readonly Finding[] | NotApplicable>;
}

export interface CheckResult {
  readonly id: string;
  readonly phase: Phase;
  readonly title: string;
  readonly result: "success" | "warning" | "error" | "skipped";
  readonly findings: readonly Finding[];
  /** Nobody could look: its finding says why. */
  readonly isUnchecked?: true;
  /** Why it was skipped. */
  readonly reason?: string;
}
