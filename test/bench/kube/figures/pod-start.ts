// From the creation of a pod to the first byte that came back to it from the other node, in the mesh and outside. The
// kubelet's, the runtime's and the client program's own start are included in both.
import type { Progress } from "../../progress.ts";
import type { Results } from "../../results.ts";
import { NAMESPACES, PATHS, PORT, type KubeStage, type Path } from "../stage.ts";

const WORDS = "words-that-only-two-pods-should-know";

export async function measurePodStart(
  stage: KubeStage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  const servers = new Map<Path, string>();
  for (const path of PATHS)
    servers.set(path, await stage.server(NAMESPACES[path], "server", "node-b"));
  const start = (path: Path, name: string) => startOne(stage, path, name, servers.get(path) ?? "");
  // what the first pod of a node pays for everybody; and what is compared is what it claims to be
  for (const path of PATHS) {
    await using capture = await stage.cluster.capture();
    await start(path, "first");
    if ((await capture.contains(WORDS)) !== (path === "direct"))
      throw new Error(`Path ${path} is ${path === "direct" ? "tunnelled" : "in clear"}`);
  }
  for (let round = 0; round < rounds; round++)
    for (const path of round % 2 === 0 ? PATHS : PATHS.toReversed()) {
      progress.step(`a pod's first byte, round ${round + 1} of ${rounds}, ${path}`);
      const { ms, attempts } = await start(path, `client-${round}`);
      results.add("pod creation to first byte", path, "ms", ms);
      results.add("attempts until the first byte", path, "", attempts);
    }
  for (const path of PATHS) await stage.deletePod(NAMESPACES[path], "server");
}

async function startOne(
  stage: KubeStage,
  path: Path,
  name: string,
  server: string,
): Promise<{ ms: number; attempts: number }> {
  const namespace = NAMESPACES[path];
  const startedMs = Date.now();
  await stage.createPod({
    namespace,
    name,
    node: "node-a",
    script: "first-byte",
    args: [server, String(PORT), WORDS],
  });
  let said: { firstByteAt: number; attempts: number } | null = null;
  await stage.until(`the first byte of ${namespace}/${name}`, async () => {
    const output = await stage.outputSoFar(namespace, name).catch(() => "");
    if (output.includes("\n") || output.endsWith("}")) said = JSON.parse(output);
    return said !== null;
  });
  await stage.deletePod(namespace, name);
  const { firstByteAt, attempts } = said ?? { firstByteAt: NaN, attempts: NaN };
  return { ms: firstByteAt - startedMs, attempts };
}
