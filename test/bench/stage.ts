// Where traffic is measured: two nodes, on each a pod inside and a pod outside the mesh, and the ways between them.
import { setTimeout as sleep } from "node:timers/promises";
import { Lab } from "../../lab/lab.ts";
import type { PodSpec } from "../../lab/kubelet.ts";
import type { LabPod } from "../../lab/pod.ts";
import { PORT, runLoad, serverCommand, type Target } from "./load-run.ts";
import { Yardstick, YARDSTICK } from "./yardstick.ts";

export const MESH = "mesh";
export const PLAIN = "plain";
const SETTLE_MS = 15_000;

/** A pod's kernel must be able to open and close connections faster than their TIME_WAIT passes. */
const SYSCTLS: Readonly<Record<string, string>> = {
  "net/ipv4/tcp_tw_reuse": "1",
  "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "1",
};

/** A process that carries the path's bytes. */
export interface Carrier {
  readonly side: "client" | "server";
  readonly pid: () => number;
}

export interface Path {
  readonly name: string;
  readonly from: LabPod;
  /** Where the bytes arrive in the end. */
  readonly to: LabPod;
  readonly target: Target;
  readonly carriers: readonly Carrier[];
}

export class Stage implements AsyncDisposable {
  readonly lab: Lab;
  readonly meshClient: LabPod;
  readonly meshServer: LabPod;
  readonly plainClient: LabPod;
  readonly plainServer: LabPod;
  readonly #yardstick: Yardstick | null;

  private constructor(lab: Lab, pods: readonly LabPod[], yardstick: Yardstick | null) {
    const [meshClient, meshServer, plainClient, plainServer] = pods;
    if (!meshClient || !meshServer || !plainClient || !plainServer) throw new Error("Missing pods");
    this.lab = lab;
    this.meshClient = meshClient;
    this.meshServer = meshServer;
    this.plainClient = plainClient;
    this.plainServer = plainServer;
    this.#yardstick = yardstick;
  }

  static async create(yardstickFile: string | null): Promise<Stage> {
    await using undo = new AsyncDisposableStack();
    const lab = undo.use(await Lab.create());
    await lab.mesh.startAll();
    await lab.namespace(MESH, { "istio.io/dataplane-mode": "ambient" });
    const client = { name: "client", serviceAccount: "client", retryMs: SETTLE_MS };
    const server = {
      name: "server",
      serviceAccount: "server",
      retryMs: SETTLE_MS,
      command: serverCommand(),
      readyPort: PORT,
    };
    const pods = await Promise.all([
      lab.runPod("a", { ...client, namespace: MESH }),
      lab.runPod("b", { ...server, namespace: MESH }),
      lab.runPod("a", { ...client, namespace: PLAIN }),
      lab.runPod("b", { ...server, namespace: PLAIN }),
    ]);
    const yardstick =
      yardstickFile === null
        ? null
        : undo.use(await startYardstick(yardstickFile, pods, await pairOf(lab, client, server)));
    for (const owner of [...lab.pods, ...lab.nodes]) await writeSysctls(owner);
    const stage = new Stage(lab, pods, yardstick);
    await stage.#settled();
    stage.#owned = undo.move();
    return stage;
  }

  #owned: AsyncDisposableStack | null = null;

  /** In the order they are measured. */
  get paths(): Path[] {
    const ztunnel = (side: "client" | "server"): Carrier => ({
      side,
      pid: () => this.ztunnelPid(side === "client" ? "a" : "b"),
    });
    const path = (name: string, from: LabPod, to: LabPod, carriers: Carrier[]): Path => ({
      name,
      from,
      to,
      target: { host: to.ip, port: PORT },
      carriers,
    });
    const [client, server] = [ztunnel("client"), ztunnel("server")];
    const paths = [
      path("direct", this.plainClient, this.plainServer, []),
      path("plain in", this.plainClient, this.meshServer, [server]),
      path("plain out", this.meshClient, this.plainServer, [client]),
      path("hbone", this.meshClient, this.meshServer, [client, server]),
    ];
    return this.#yardstick === null ? paths : [...paths, ...this.#yardstick.paths];
  }

  get yardstick(): Yardstick | null {
    return this.#yardstick;
  }

  path(name: string): Path {
    const path = this.paths.find((p) => p.name === name);
    if (path === undefined) throw new Error(`No path ${name}`);
    return path;
  }

  ztunnelPid(node: string): number {
    return this.lab.mesh.part("ztunnel", node).process?.pid ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned?.[Symbol.asyncDispose]();
  }

  /** Every path answers, and the mesh's own pods find each other as workloads. */
  async #settled(): Promise<void> {
    const deadline = Date.now() + SETTLE_MS;
    for (const path of this.paths)
      for (;;) {
        const result = await runLoad(path.from, "echo", path.target, { seconds: 0.2 });
        if (result.operations > 0) break;
        if (Date.now() > deadline) throw new Error(`No traffic on path ${path.name}`);
        await sleep(200);
      }
  }
}

type Pair = readonly [client: LabPod, server: LabPod];

const pairOf = (lab: Lab, client: PodSpec, server: PodSpec): Promise<Pair> =>
  Promise.all([
    lab.runPod("a", { ...client, namespace: YARDSTICK }),
    lab.runPod("b", { ...server, namespace: YARDSTICK }),
  ]);

async function startYardstick(
  file: string,
  [meshClient, meshServer]: readonly LabPod[],
  [client, server]: Pair,
): Promise<Yardstick> {
  if (meshClient !== undefined) await Yardstick.copyRules(meshClient, client);
  if (meshServer !== undefined) await Yardstick.copyRules(meshServer, server);
  return Yardstick.start(file, client, server, PORT);
}

async function writeSysctls(owner: { readonly netns: LabPod["netns"] }): Promise<void> {
  const lines = Object.entries(SYSCTLS).map(
    ([key, value]) => `[ ! -w /proc/sys/${key} ] || echo "${value}" >/proc/sys/${key}`,
  );
  await owner.netns.run(["sh", "-c", lines.join("\n")]);
}
