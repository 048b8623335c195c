// The last step of an uninstallation: a namespace is gone only when all in it is, and until then nothing can be
// installed there again.
import { systemClock } from "#lib/base/clock.ts";
import { RESOURCES, type Condition, type Namespace } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import type { Kube } from "../kube/connect.ts";
import { formatDuration } from "../render/units.ts";

const POLL_MS = 500;

/** @throws {CliError} TIMEOUT with what the API server says is left */
export async function deleteNamespace(
  { cluster }: Pick<Kube, "cluster">,
  name: string,
  { signal, err }: Pick<Io, "signal" | "err">,
  timeoutMs: number,
): Promise<void> {
  await cluster.delete(RESOURCES.namespaces, null, name);
  const started = systemClock.now();
  let said = "";
  for (;;) {
    const namespace = await cluster.get(RESOURCES.namespaces, null, name);
    if (namespace === null) break;
    const left = remainders(namespace);
    const progress = `waiting until namespace ${name} is gone${left.length === 0 ? "" : `: ${left.join("; ")}`}`;
    if (progress !== said) err(progress);
    said = progress;
    if (systemClock.now() - started > timeoutMs)
      throw new CliError(
        "TIMEOUT",
        `Namespace ${name} is not gone within ${formatDuration(timeoutMs)}`,
        [
          ...left,
          `kubectl get namespace ${name} -o yaml says what holds it`,
          "running ambit uninstall again goes on from here",
        ],
      );
    await systemClock.sleep(POLL_MS, signal);
    signal.throwIfAborted();
  }
}

const TELLING: ReadonlySet<string> = new Set([
  "NamespaceContentRemaining",
  "NamespaceFinalizersRemaining",
  "NamespaceDeletionContentFailure",
  "NamespaceDeletionDiscoveryFailure",
]);

/** What the namespace controller says stands in the way. */
function remainders({ status }: Namespace): string[] {
  const { conditions = [] } = (status ?? {}) as { readonly conditions?: readonly Condition[] };
  return conditions
    .filter((c) => TELLING.has(c.type) && c.status === "True" && c.message !== undefined)
    .map((c) => c.message ?? "");
}
