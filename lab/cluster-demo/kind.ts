// The demo's cluster made by kind in docker, on a machine of the user's: the image is built and loaded there, and
// Gateway API's definitions come from the project that publishes them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StepError, type Notes } from "../demo/step.ts";
import { ROOT } from "../mesh-parts.ts";
import { run } from "../process.ts";
import type { DemoCluster } from "./cluster.ts";

const NAME = "ambit";
const IMAGE = "ambit:dev";
const BUILD_MS = 600_000;
const NEEDED = ["docker", "kind", "kubectl"] as const;
export const GATEWAY_API =
  "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.0/standard-install.yaml";

/** What this machine lacks for a kind cluster; empty when it can have one. */
export async function missingForKind(): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const tool of NEEDED) {
    const { code } = await run(["sh", "-c", `command -v ${tool}`], { allowFailure: true });
    if (code !== 0) missing.push(tool);
  }
  if (!missing.includes("docker")) {
    const { code } = await run(["docker", "info"], { allowFailure: true });
    if (code !== 0) missing.push("a docker engine that answers (docker info)");
  }
  return missing;
}

/** @throws {StepError} */
export async function makeKindCluster(notes: Notes): Promise<DemoCluster> {
  await using undo = new AsyncDisposableStack();
  const dir = mkdtempSync(join(tmpdir(), "ambit-kind-"));
  undo.defer(() => rmSync(dir, { recursive: true, force: true }));
  const kubeconfig = join(dir, "kubeconfig");
  const { stdout: existing } = await run(["kind", "get", "clusters"]);
  if (existing.split("\n").includes(NAME))
    throw new StepError(
      `There is a kind cluster ${NAME} already; remove it with: kind delete cluster --name ${NAME}`,
    );
  undo.defer(async () => {
    await run(["kind", "delete", "cluster", "--name", NAME], {
      timeoutMs: BUILD_MS,
      allowFailure: true,
    });
  });
  const config = join(ROOT, "kind-config.yaml");
  await shown(notes, ["kind", "create", "cluster", "--config", config, "--kubeconfig", kubeconfig]);
  notes.did("node image/build.ts");
  await run([process.execPath, join(ROOT, "image/build.ts")], { timeoutMs: BUILD_MS });
  await shown(notes, ["docker", "build", "-t", IMAGE, ROOT]);
  await shown(notes, ["kind", "load", "docker-image", IMAGE, "--name", NAME]);
  const kubectl = async (args: readonly string[], input?: string): Promise<string> => {
    const argv = ["kubectl", "--kubeconfig", kubeconfig, ...args];
    const { code, stdout, stderr } = await run(argv, {
      allowFailure: true,
      timeoutMs: BUILD_MS,
      ...(input === undefined ? {} : { input }),
    });
    if (code === 0) return stdout;
    throw new StepError(`kubectl ${args.join(" ")}: ${`${stdout}${stderr}`.trim()}`);
  };
  notes.did(`kubectl apply --server-side -f ${GATEWAY_API}`);
  await kubectl(["apply", "--server-side", "-f", GATEWAY_API]);
  const owned = undo.move();
  return {
    kubeconfig,
    image: IMAGE,
    kubectl,
    capture: async (n) => {
      n.saw("no packet capture here: the link is inside docker; `make kube-demo` has one");
      return null;
    },
    onNodes: async (command) => {
      const { stdout } = await run(["kind", "get", "nodes", "--name", NAME]);
      const found = new Map<string, string>();
      for (const node of stdout.trim().split("\n"))
        found.set(node, (await run(["docker", "exec", node, "sh", "-c", command])).stdout);
      return found;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function shown(notes: Notes, argv: readonly string[]): Promise<void> {
  notes.did(argv.join(" ").replaceAll(`${ROOT}/`, "").replace(ROOT, "."));
  await run(argv, { timeoutMs: BUILD_MS });
}
