// What the mesh tests share: one running mesh per file, programs in pods as sockets of this process (a
// socket belongs to the namespace it was made in), and questions to the mesh's parts.
import { readFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AuthorizationPolicy, PeerAuthentication } from "#lib/kube/objects.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { TunnelView } from "#lib/model/tunnel.ts";
import { parseIp } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import { listenTcp } from "#lib/sys/socket.ts";
import type { PodSpec } from "../../lab/kubelet.ts";
import type { Lab, LabOptions } from "../../lab/lab.ts";
import type { Netns } from "../../lab/netns.ts";
import type { LabPod } from "../../lab/pod.ts";
import { connectFrom } from "../../lab/probe.ts";
import { testLab, type NeedsLab } from "../harness/lab.ts";

export const AMBIENT = { "istio.io/dataplane-mode": "ambient" } as const;
const CONNECT_MS = 3_000;
const POLL_MS = 20;

/** One lab with all mesh parts for the tests of a file; call inside `describe`. */
export function sharedMesh(
  options: LabOptions = {},
  populate?: (lab: Lab) => Promise<void>,
): () => Lab {
  let lab: Lab | null = null;
  before(
    async () => {
      lab = await testLab(options);
      await lab.mesh.startAll();
      await populate?.(lab);
    },
    { timeout: 60_000 },
  );
  after(async () => await lab?.[Symbol.asyncDispose](), { timeout: 30_000 });
  return () => {
    if (lab === null) throw new Error("The lab did not start");
    return lab;
  };
}

/** `needsLab` for a whole `describe`, whose tests bring their own time limits. */
export function suite(needsLab: NeedsLab, timeout = 150_000): NeedsLab {
  return needsLab.skip === undefined ? { timeout } : needsLab;
}

/** Asks until the answer is neither null nor false. @throws with what was awaited and the last error */
export async function within<T>(
  what: string,
  ask: () => T | null | false | Promise<T | null | false>,
  timeoutMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== null && answer !== false) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline)
      throw new Error(`Not within ${timeoutMs} ms: ${what}`, { cause: last });
    await sleep(POLL_MS);
  }
}

/** A pod that does nothing by itself, with a service account of its name. */
export function pod(
  lab: Lab,
  node: string,
  name: string,
  spec: Partial<PodSpec> = {},
): Promise<LabPod> {
  return lab.runPod(node, {
    name,
    namespace: "shop",
    labels: { app: name },
    serviceAccount: name,
    ports: [{ name: "tcp", containerPort: 8080 }],
    ...spec,
  });
}

interface Dump {
  readonly workloads: readonly {
    readonly uid: string;
    readonly protocol: string;
    readonly waypoint?: { readonly destination: string };
    readonly authorizationPolicies?: readonly string[];
  }[];
  readonly services: readonly {
    readonly hostname: string;
    readonly namespace: string;
    readonly endpoints: Readonly<Record<string, unknown>>;
    readonly waypoint?: { readonly destination: string };
  }[];
  readonly policies: readonly { readonly namespace: string; readonly name: string }[];
  readonly certificates: readonly {
    readonly identity: string;
    readonly state: string;
    readonly certChain: readonly { readonly serialNumber: string; readonly validFrom: string }[];
  }[];
  readonly workloadState: Readonly<Record<string, { readonly state: string }>>;
}

export async function configDump(lab: Lab, node: string): Promise<Dump> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the shape is what the tests check
  return (await lab.mesh.json("ztunnel", node, PORT.ztunnelAdmin, "/config_dump")) as Dump;
}

export async function tunnels(lab: Lab, node: string): Promise<readonly TunnelView[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
  const list = (await lab.mesh.json("ztunnel", node, PORT.ztunnelAdmin, "/ambit/tunnels")) as {
    readonly items: readonly TunnelView[];
  };
  return list.items;
}

/** Waits until every ztunnel has these pods as part of the mesh. */
export async function known(lab: Lab, ...pods: readonly LabPod[]): Promise<void> {
  for (const node of lab.nodes)
    await within(`node ${node.name} knows ${pods.map((p) => p.name).join(", ")}`, async () => {
      const { workloads } = await configDump(lab, node.name);
      return pods.every((p) =>
        workloads.some(
          (w) => w.uid.endsWith(`/Pod/${p.namespace}/${p.name}`) && w.protocol === "HBONE",
        ),
      );
    });
}

/** Waits until every ztunnel has a service with so many endpoints. */
export async function knownService(
  lab: Lab,
  name: string,
  endpoints: number,
  namespace = "shop",
): Promise<void> {
  for (const node of lab.nodes)
    await within(`node ${node.name} has ${endpoints} endpoints of ${name}`, async () => {
      const { services } = await configDump(lab, node.name);
      const found = services.find(
        (s) => s.namespace === namespace && s.hostname.startsWith(`${name}.`),
      );
      return found !== undefined && Object.keys(found.endpoints).length === endpoints;
    });
}

/** Whether a ztunnel has this policy. */
export async function hasPolicy(lab: Lab, node: string, name: string): Promise<boolean> {
  return (await configDump(lab, node)).policies.some((p) => p.name === name);
}

/** Whether the ztunnel beside a pod has this policy and applies it to the pod: the two come one after the other. */
export async function inForce(lab: Lab, on: LabPod, name: string): Promise<boolean> {
  const { workloads, policies } = await configDump(lab, on.node);
  const record = workloads.find((w) => w.uid.endsWith(`/Pod/${on.namespace}/${on.name}`));
  return (
    policies.some((p) => p.name === name) &&
    (record?.authorizationPolicies?.includes(`${on.namespace}/${name}`) ?? false)
  );
}

/** What a part has written since its first start. */
export function logOf(lab: Lab, part: "istiod" | "ztunnel" | "cni", node?: string): string {
  return readFileSync(lab.mesh.part(part, node).logFile, "utf8");
}

/** Waits until a part's log has a line that matches. Resolves with the last such line. */
export function logLine(
  lab: Lab,
  part: "istiod" | "ztunnel" | "cni",
  node: string | undefined,
  pattern: RegExp,
  /** Length of the log before which lines do not count. */
  since = 0,
): Promise<string> {
  const where = node === undefined ? part : `${part} on ${node}`;
  return within(
    `a line ${pattern} in the log of ${where}`,
    () =>
      logOf(lab, part, node)
        .slice(since)
        .split("\n")
        .findLast((l) => pattern.test(l)) ?? null,
    10_000,
  );
}

/** Private memory of a process in kilobytes: what it alone keeps resident. */
export function privateKb(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return [...rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)].reduce(
    (sum, m) => sum + Number(m[1]),
    0,
  );
}

export function pidOf(lab: Lab, part: "istiod" | "ztunnel" | "cni", node?: string): number {
  return lab.mesh.part(part, node).process?.pid ?? 0;
}

/** An open connection from inside a namespace. Half-open is allowed; errors are kept, not thrown. */
export async function dial(
  from: { readonly netns: Netns },
  ip: string,
  port: number,
): Promise<Peer> {
  return new Peer(await connectFrom(from.netns, ip, port, CONNECT_MS));
}

/** One end of a connection, as a program would see it. */
export class Peer implements Disposable {
  readonly socket: Socket;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  hasEnded = false;
  isClosed = false;
  /** `ECONNRESET` and the like. */
  error: string | null = null;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.allowHalfOpen = true;
    socket.on("data", (chunk: Buffer) => {
      this.#received.push(chunk);
      this.#receivedBytes += chunk.length;
    });
    socket.on("end", () => (this.hasEnded = true));
    socket.on(
      "error",
      (error: NodeJS.ErrnoException) => (this.error ??= error.code ?? error.message),
    );
    socket.on("close", () => (this.isClosed = true));
  }

  get received(): string {
    return Buffer.concat(this.#received).toString("latin1");
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Frees what was received; the count stays. */
  forget(): void {
    this.#received = [];
  }

  /** Sends a line and resolves with the next line that comes. @throws when the connection ends first */
  async ask(line: string, timeoutMs = 5_000): Promise<string> {
    const from = this.received.length;
    this.socket.write(`${line}\n`);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const end = this.received.indexOf("\n", from);
      if (end >= 0) return this.received.slice(from, end);
      if (this.hasEnded || this.isClosed)
        throw new Error(`Ended before the answer: ${this.error ?? "FIN"}`);
      if (performance.now() > deadline) throw new Error(`No answer within ${timeoutMs} ms`);
      await sleep(5);
    }
  }

  /** Resolves once the connection is over, however. */
  async closed(timeoutMs = 5_000): Promise<void> {
    await within("the connection's end", () => this.isClosed || this.hasEnded, timeoutMs);
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

export interface Service extends AsyncDisposable {
  readonly server: Server;
  /** Connections so far, in order. */
  readonly peers: readonly Peer[];
}

/** A server in a pod: `serve` is called per connection. */
export async function listen(
  at: { readonly netns: Netns },
  port: number,
  serve: (peer: Peer) => void = () => {},
): Promise<Service> {
  const peers: Peer[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const peer = new Peer(socket);
    peers.push(peer);
    serve(peer);
  });
  const fd = listenTcp({ ip: parseIp("::"), port, netns: at.netns.fd, backlog: 512 });
  await new Promise<void>((resolve) => server.listen({ fd }, resolve));
  return {
    server,
    peers,
    [Symbol.asyncDispose]: async () => {
      for (const peer of peers) peer.socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** Answers each line with "<name> <client address> <line>". */
export function echoLines(at: LabPod, port = 8080): Promise<Service> {
  return listen(at, port, (peer) => {
    const client = (peer.socket.remoteAddress ?? "").replace(/^::ffff:/, "");
    let rest = "";
    peer.socket.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString("latin1")).split("\n");
      rest = lines.pop() ?? "";
      peer.forget();
      for (const line of lines) peer.socket.write(`${at.name} ${client} ${line}\n`);
    });
    peer.socket.on("end", () => peer.socket.end());
  });
}

/** One question over a connection of its own; null when it was refused, closed or reset instead of answered. */
export async function tryAsk(
  from: { readonly netns: Netns },
  ip: string,
  port = 8080,
  line = "hello",
  timeoutMs = 5_000,
): Promise<string | null> {
  try {
    using peer = await dial(from, ip, port);
    return await peer.ask(line, timeoutMs);
  } catch {
    return null;
  }
}

/** Applies a policy; `applied` in the returned object is when the file was in place. */
export async function allow(
  lab: Lab,
  name: string,
  spec: NonNullable<AuthorizationPolicy["spec"]>,
  more: { readonly namespace?: string; readonly annotations?: Record<string, string> } = {},
): Promise<{ readonly appliedAt: number } & AsyncDisposable> {
  const { namespace = "shop", annotations } = more;
  await lab.cluster.apply(
    RESOURCES.authorizationPolicies,
    {
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name, namespace, ...(annotations === undefined ? {} : { annotations }) },
      spec,
    },
    { fieldManager: "test" },
  );
  return {
    appliedAt: performance.now(),
    [Symbol.asyncDispose]: () =>
      lab.cluster.delete(RESOURCES.authorizationPolicies, namespace, name),
  };
}

export async function peerAuthentication(
  lab: Lab,
  name: string,
  spec: NonNullable<PeerAuthentication["spec"]>,
  namespace = "shop",
): Promise<AsyncDisposable> {
  await lab.cluster.apply(
    RESOURCES.peerAuthentications,
    {
      apiVersion: "security.istio.io/v1",
      kind: "PeerAuthentication",
      metadata: { name, namespace },
      spec,
    },
    { fieldManager: "test" },
  );
  return {
    [Symbol.asyncDispose]: () => lab.cluster.delete(RESOURCES.peerAuthentications, namespace, name),
  };
}

/** A GET to a part's own loopback port, as text whatever the status. */
export async function getText(
  lab: Lab,
  part: "istiod" | "ztunnel" | "cni",
  node: string | undefined,
  port: number,
  path: string,
): Promise<string> {
  return text(await lab.mesh.request(lab.mesh.part(part, node), port, path, 5_000));
}
