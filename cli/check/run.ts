// Runs the checks of a phase, one after the other, and says what each found.
import { KubeError } from "#lib/kube/errors.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import type { Kube } from "../kube/connect.ts";
import { didYouMean } from "../suggest.ts";
import type { Check, CheckResult, Phase } from "./check.ts";
import { CheckContext } from "./context.ts";
import { NAMESPACE_CHECKS } from "./namespace.ts";
import { POST_CHECKS } from "./post.ts";
import { PRE_CHECKS } from "./pre.ts";

export const CHECKS: Readonly<Record<Phase, readonly Check[]>> = {
  pre: PRE_CHECKS,
  post: POST_CHECKS,
  namespace: NAMESPACE_CHECKS,
};

/** Checks that mean something with the pods of one node alone. */
const OF_A_NODE: ReadonlySet<string> = new Set(["C20", "C21", "C22", "C23", "C30", "C31"]);

export interface RunOptions {
  readonly io: Pick<Io, "signal" | "now">;
  readonly timeoutMs: number;
  readonly namespace?: string | undefined;
  /** Only what can be said of one node. */
  readonly node?: string | undefined;
  /** Ids; all without. */
  readonly only?: readonly string[] | undefined;
}

/** @throws {CliError} USAGE for an unknown id; {KubeError} when the API server cannot be reached at all */
export async function runChecks(
  kube: Kube,
  phases: Phase | readonly Phase[],
  { io, timeoutMs, namespace, node, only }: RunOptions,
): Promise<CheckResult[]> {
  if (only !== undefined) requireKnown(only);
  await kube.server.version(AbortSignal.any([io.signal, AbortSignal.timeout(timeoutMs)]));
  const { signal } = io;
  const context = new CheckContext(kube, { namespace, node, timeoutMs, signal, now: io.now() });
  const results: CheckResult[] = [];
  for (const phase of typeof phases === "string" ? [phases] : phases)
    for (const check of CHECKS[phase])
      if (only?.includes(check.id) ?? (node === undefined || OF_A_NODE.has(check.id)))
        results.push(await runOne(check, phase, context));
  return results;
}

async function runOne(check: Check, phase: Phase, context: CheckContext): Promise<CheckResult> {
  const { id, title, severity } = check;
  try {
    const found = await check.run(context);
    if ("skipped" in found)
      return { id, phase, title, result: "skipped", findings: [], reason: found.skipped };
    return { id, phase, title, result: found.length === 0 ? "success" : severity, findings: found };
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof KubeError || error instanceof CliError)) throw error;
    const finding = {
      text: `could not be checked: ${error.message}`,
      hint: "check again with credentials that may read it: --context, --as",
    };
    return { id, phase, title, result: "warning", findings: [finding], isUnchecked: true };
  }
}

function requireKnown(ids: readonly string[]): void {
  const known = Object.values(CHECKS).flatMap((all) => all.map((c): string => c.id));
  for (const id of ids)
    if (!known.includes(id))
      throw new CliError("USAGE", `No such check: ${JSON.stringify(id)}`, [
        ...didYouMean(id, known),
        `checks: ${known.join(", ")}`,
      ]);
}
