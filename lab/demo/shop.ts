// The demo's application: a shop namespace with clients and two versions of a server, and a stranger
// outside. Clients talk all the time; everything they say carries a secret word.
import { randomBytes } from "node:crypto";
import type { Capture } from "../capture.ts";
import type { Lab } from "../lab.ts";
import type { LabPod } from "../pod.ts";
import { crossedBetween, type Crossed, type Flow } from "../pcap.ts";
import type { LabProcess } from "../process.ts";
import { clientEvents, workload, type ClientEvent } from "../workloads.ts";
import { expect, StepError } from "./step.ts";

export const SHOP = "shop";
export const SERVER_PORT = 8080;
const SERVICE_PORT = 80;
/** TLS records (RFC 8446 §5.1): change_cipher_spec 20 to application_data 23, legacy version 3.x. */
const isTlsRecord = (bytes: Buffer): boolean => {
  const type = bytes[0] ?? 0;
  return type >= 20 && type <= 23 && bytes[1] === 3;
};

export class Shop {
  /** Said by every client in every message. */
  readonly secret = `secret-${randomBytes(6).toString("hex")}`;
  readonly client: LabPod;
  readonly visitor: LabPod;
  readonly servers: readonly LabPod[];
  readonly stranger: LabPod;
  readonly #busy: LabProcess;

  private constructor(
    lab: {
      readonly client: LabPod;
      readonly visitor: LabPod;
      readonly servers: readonly LabPod[];
      readonly stranger: LabPod;
    },
    secret: string,
    busy: LabProcess,
  ) {
    this.client = lab.client;
    this.visitor = lab.visitor;
    this.servers = lab.servers;
    this.stranger = lab.stranger;
    this.secret = secret;
    this.#busy = busy;
  }

  static async open(lab: Lab): Promise<Shop> {
    const server = (version: string, node: string): Promise<LabPod> =>
      lab.runPod(node, {
        name: `server-${version}`,
        namespace: SHOP,
        labels: { app: "server", version },
        serviceAccount: "server",
        ports: [{ name: "tcp", containerPort: SERVER_PORT }],
        command: workload("echo-server", { port: SERVER_PORT, name: `server-${version}` }),
        readyPort: SERVER_PORT,
      });
    const idle = (name: string, namespace: string): Promise<LabPod> =>
      lab.runPod("a", { name, namespace, labels: { app: name }, serviceAccount: name });
    await lab.namespace(SHOP);
    await lab.namespace("street");
    await lab.service({
      name: "server",
      namespace: SHOP,
      selector: { app: "server" },
      ports: [{ name: "tcp", port: SERVICE_PORT, targetPort: SERVER_PORT }],
    });
    const [v1, v2, client, visitor, stranger] = await Promise.all([
      server("v1", "b"),
      server("v2", "b"),
      idle("client", SHOP),
      idle("visitor", SHOP),
      idle("stranger", "street"),
    ]);
    await lab.waitForEndpoints(SHOP, "server", 2);
    const secret = `secret-${randomBytes(6).toString("hex")}`;
    const busy = await client.start(
      workload("client", {
        host: "server",
        port: SERVICE_PORT,
        text: secret,
        intervalMs: 100,
        timeoutMs: 2000,
      }),
      { name: "busy" },
    );
    return new Shop({ client, visitor, servers: [v1, v2], stranger }, secret, busy);
  }

  /** What the busy client has seen so far. */
  get events(): ClientEvent[] {
    expect(this.#busy.running, "the busy client is running");
    return clientEvents(this.#busy.stdout);
  }

  /** Waits for `count` more answers to the busy client. @throws {StepError} with its last error */
  async answers(count: number, timeoutMs = 10_000): Promise<ClientEvent[]> {
    const before = this.events.length;
    const fresh = (): ClientEvent[] => this.events.slice(before);
    try {
      await this.#busy.waitUntil(
        () => fresh().filter((e) => e.event === "answer").length >= count,
        "answers",
        timeoutMs,
      );
    } catch {
      const last = fresh().findLast((e) => e.event === "error");
      throw new StepError(
        `Expected ${count} answers to the client within ${timeoutMs} ms; its last error: ${last?.error ?? "none"}`,
      );
    }
    return fresh();
  }

  /** One question from another pod: the answer, or the error that its program saw. */
  async ask(
    from: LabPod,
    timeoutMs = 3_000,
  ): Promise<{ readonly answer: string } | { readonly error: string }> {
    const host = `server.${SHOP}.svc.cluster.local`;
    const { stdout } = await from.exec(
      workload("client", { host, port: SERVICE_PORT, text: this.secret, count: 1, timeoutMs }),
    );
    const last = clientEvents(stdout).at(-1);
    return last?.answer === undefined
      ? { error: last?.error ?? "no output" }
      : { answer: last.answer };
  }

  /** A connection that stays open and says something now and then. */
  hold(from: LabPod): Promise<LabProcess> {
    return from.start(
      workload("client", {
        host: "server",
        port: SERVICE_PORT,
        text: this.secret,
        intervalMs: 250,
        keep: true,
      }),
      { name: "kept" },
    );
  }

  /** TCP traffic between the shop's pods that a capture saw. */
  async flows(capture: Capture): Promise<Crossed> {
    const ours = new Set(
      [this.client, this.visitor, this.stranger, ...this.servers].flatMap((p) => p.ips),
    );
    return crossedBetween(await capture.flows(), ours);
  }

  /** Everything in these flows is TLS and the secret is not in it. */
  expectUnreadable(flows: readonly Flow[]): void {
    for (const flow of flows) {
      const name = `${flow.src}:${flow.srcPort} → ${flow.dst}:${flow.dstPort}`;
      expect(isTlsRecord(flow.bytes), `TLS records in ${name}`);
      expect(!flow.bytes.includes(this.secret), `no secret in ${name}`);
    }
  }
}
