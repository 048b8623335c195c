// From the label on a namespace until the last of its running pods is in the mesh, and the way back.
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { PAUSE_IMAGE } from "../../../kube/images.ts";
import type { Progress } from "../../progress.ts";
import type { Results } from "../../results.ts";
import { isEnrolled, WRITER, type KubeStage } from "../stage.ts";

const PODS = 50;
const NAMESPACE = "crowd";
const LABEL = "istio.io/dataplane-mode";
const WAIT_MS = 120_000;
const NODES = ["node-a", "node-b"];

export async function measureEnrolment(
  stage: KubeStage,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  progress.step(`${PODS} pods`);
  await stage.cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: NAMESPACE } });
  await stage.cluster.kubectl(["wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE]);
  await createPods(stage);
  await using crowd = new Crowd(stage);
  for (let round = 0; round < rounds; round++) {
    progress.step(`label, round ${round + 1} of ${rounds}`);
    const on = await crowd.until(PODS, () => label(stage, "ambient"));
    results.add(`label to the last of ${PODS} pods enrolled`, "ambit", "ms", on);
    const off = await crowd.until(0, () => label(stage, null));
    results.add(`label removed to the last of ${PODS} pods left alone`, "ambit", "ms", off);
  }
  await stage.cluster.kubectl(["delete", "namespace", NAMESPACE, "--wait=false"]);
  await stage.until("the crowd to be gone", async () => (await pods(stage)).length === 0);
}

/** How many pods of the namespace say that they are enrolled, as a watch tells it. */
class Crowd implements AsyncDisposable {
  readonly #enrolled = new Set<string>();
  readonly #abort = new AbortController();
  readonly #watch: Promise<void>;
  #changed: () => void = () => {};

  constructor(stage: KubeStage) {
    this.#watch = stage.kube.watch(
      RESOURCES.pods,
      {
        onEvents: (events) => {
          for (const { type, object } of events)
            if (type !== "deleted" && isEnrolled(object)) this.#enrolled.add(object.metadata.name);
            else this.#enrolled.delete(object.metadata.name);
          this.#changed();
        },
        onSynced: () => {},
      },
      { namespace: NAMESPACE, signal: this.#abort.signal },
    );
  }

  /** Resolves with the milliseconds from the call of `change`. */
  async until(count: number, change: () => Promise<void>): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const timer = setTimeout(
      () => reject(new Error(`${this.#enrolled.size} pods enrolled after ${WAIT_MS} ms`)),
      WAIT_MS,
    );
    const started = performance.now();
    this.#changed = () => {
      if (this.#enrolled.size === count) resolve(performance.now() - started);
    };
    try {
      const [ms] = await Promise.all([promise, change()]);
      return ms;
    } finally {
      clearTimeout(timer);
      this.#changed = () => {};
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#watch;
  }
}

async function createPods(stage: KubeStage): Promise<void> {
  const container = { name: "main", image: PAUSE_IMAGE, imagePullPolicy: "Never" };
  await Promise.all(
    Array.from({ length: PODS }, (_, i) => {
      const nodeName = NODES[i % NODES.length] ?? "";
      const pod = {
        apiVersion: "v1",
        kind: "Pod",
        metadata: { namespace: NAMESPACE, name: `idle-${i}`, labels: { app: "idle" } },
        spec: { nodeName, terminationGracePeriodSeconds: 0, containers: [container] },
      };
      return stage.kube.create(RESOURCES.pods, pod, WRITER);
    }),
  );
  await stage.until(`${PODS} pods to run`, async () => {
    const running = (await pods(stage)).filter((pod) => pod.status?.phase === "Running");
    return running.length === PODS;
  });
}

function pods(stage: KubeStage): Promise<readonly Pod[]> {
  return stage.kube.list(RESOURCES.pods, { namespace: NAMESPACE });
}

async function label(stage: KubeStage, mode: "ambient" | null): Promise<void> {
  const patch = { metadata: { labels: { [LABEL]: mode } } };
  await stage.kube.patch(RESOURCES.namespaces, null, NAMESPACE, patch, WRITER);
}
