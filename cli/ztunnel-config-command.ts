// The shape shared by the `ztunnel-config` commands: gather dumps, filter, print with istioctl's columns.
import { AmbitCommand } from "./command.ts";
import { CliError } from "./errors.ts";
import { argument, nodeFlag, sourceFlags } from "./flags.ts";
import { listDocument, type Unanswered } from "./render/output.ts";
import type { NodeDump } from "./render/workloads.ts";
import { parseConfigDump } from "./source/config-dump.ts";
import { gather } from "./source/mesh-source.ts";
import { gatherOptions, openSource, type SourceFlags } from "./source/open.ts";
import { didYouMean } from "./suggest.ts";

/** `pod`, `pod.namespace` or `pod/pod.namespace`, as istioctl takes it. */
export const podArgument = {
  pod: argument({
    description: "Only this pod: <pod>, <pod>.<namespace> or pod/<pod>.<namespace>.",
    required: false,
  }),
} as const;

export const zcFlags = { ...sourceFlags, ...nodeFlag } as const;

export interface Dumps {
  readonly dumps: readonly NodeDump[];
  readonly partial: readonly Unanswered[];
}

export abstract class ZtunnelConfigCommand extends AmbitCommand {
  protected async dumps(flags: SourceFlags): Promise<Dumps> {
    const source = await openSource(flags, this.io);
    const options = gatherOptions(flags, this.io);
    const { answers, partial } = await gather(source, "/config_dump", parseConfigDump, options);
    return { dumps: answers, partial };
  }

  protected document(
    kind: string,
    items: readonly unknown[],
    partial: readonly Unanswered[],
  ): unknown {
    return listDocument(kind, items, {
      generatedAt: new Date(this.io.now()).toISOString(),
      partial,
    });
  }
}

export interface PodName {
  readonly name: string;
  readonly namespace?: string | undefined;
}

/** @throws {CliError} USAGE for another kind than a pod */
export function parsePodName(text: string, namespace: string | undefined): PodName {
  const slash = text.indexOf("/");
  const kind = slash < 0 ? "pod" : text.slice(0, slash);
  if (!["pod", "pods", "po"].includes(kind))
    throw new CliError("USAGE", `Expected a pod, got ${JSON.stringify(text)}`, [
      "write <pod>, <pod>.<namespace> or pod/<pod>",
    ]);
  const rest = text.slice(slash + 1);
  const dot = rest.indexOf(".");
  return dot < 0
    ? { name: rest, namespace }
    : { name: rest.slice(0, dot), namespace: rest.slice(dot + 1) };
}

export function isPod(
  w: { readonly name: string; readonly namespace: string },
  pod: PodName,
): boolean {
  return w.name === pod.name && (pod.namespace === undefined || w.namespace === pod.namespace);
}

/** @throws {CliError} NOT_FOUND when no dump knows the pod */
export function requirePod(pod: PodName, dumps: readonly NodeDump[]): void {
  const known = dumps.flatMap((d) => [...d.value.workloads, ...d.value.pods]);
  if (known.some((w) => isPod(w, pod))) return;
  const where = pod.namespace === undefined ? "any namespace" : `namespace ${pod.namespace}`;
  throw new CliError("NOT_FOUND", `No workload ${JSON.stringify(pod.name)} in ${where}`, [
    ...didYouMean(
      pod.name,
      known.map((w) => w.name),
    ),
    "ambit ztunnel-config workload lists them",
  ]);
}
