// A real Kubernetes API server on loopback, with etcd and, if wanted, the controller manager. Needs no
// privileges; ready in seconds; ends with the test, however that ends.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "../../lab/errors.ts";
import { run, type LabProcess } from "../../lab/process.ts";
import { ApiRequester } from "./api-request.ts";
import { readAuditLog, type AuditEvent } from "./audit.ts";
import type { Authority } from "./authority.ts";
import { program } from "./binaries.ts";
import {
  prepareControlPlane,
  type PreparedControlPlane,
  type PrepareOptions,
} from "./control-plane-files.ts";
import {
  apiServerFlags,
  controllerManagerFlags,
  etcdFlags,
  schedulerFlags,
  startProgram,
  type ControlPlanePlan,
} from "./control-plane-programs.ts";
import { areServed, createCrds, type CrdSet } from "./crds.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { freePorts } from "./ports.ts";
import { requestToken, type ServiceAccountTokenOptions } from "./service-account-token.ts";
import { TempDir } from "./temp-dir.ts";

const READY_MS = 60_000;
const POLL_MS = 50;
/** A free port may be taken by somebody else before we bind it. */
const ATTEMPTS = 3;

export interface ControlPlaneOptions extends PrepareOptions {
  /** Created before `start` resolves. */
  readonly crds?: readonly CrdSet[];
  readonly scheduler?: boolean;
  /** A free one otherwise. */
  readonly port?: number;
}

export type ClusterUser = (
  | { readonly user: string }
  | { readonly serviceAccount: { readonly namespace: string; readonly name: string } }
) & { readonly groups?: readonly string[] };

export interface KubectlOptions {
  readonly stdin?: string;
  readonly kubeconfig?: string;
  readonly allowFailure?: boolean;
  readonly timeoutMs?: number;
}

export interface KubectlResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Owns its processes and its directory. */
export class ControlPlane implements AsyncDisposable {
  /** Path of the cluster administrator's. */
  readonly kubeconfig: string;
  readonly url: string;
  /** In clear, for whoever must get round the API server. */
  readonly etcdUrl: string;
  readonly caFile: string;
  /** Bearer token of the administrator (group `system:masters`). */
  readonly token: string;
  readonly dir: string;
  /** Private key, PEM, of service account tokens: for tokens the API server would never issue. */
  readonly serviceAccountKeyFile: string;
  readonly authority: Authority;
  readonly #plan: ControlPlanePlan;
  readonly #ports: { readonly api: number; readonly etcd: number };
  readonly #owned: AsyncDisposableStack;
  readonly #requester: ApiRequester;
  #apiServer: LabProcess | null = null;
  #controllerManager: LabProcess | null = null;
  #scheduler: LabProcess | null = null;
  #users = 0;

  private constructor(
    parts: PreparedControlPlane,
    ports: { readonly api: number; readonly etcd: number },
    owned: AsyncDisposableStack,
  ) {
    const { plan } = parts;
    this.#plan = plan;
    this.#ports = ports;
    this.#owned = owned;
    this.authority = parts.authority;
    this.dir = plan.dir;
    this.url = `https://${bracket(plan.address)}:${ports.api}`;
    this.etcdUrl = `http://127.0.0.1:${ports.etcd}`;
    this.caFile = plan.caFile;
    this.token = parts.token;
    this.kubeconfig = `${plan.dir}/admin.kubeconfig`;
    this.serviceAccountKeyFile = plan.serviceAccountKey.key;
    this.#requester = owned.use(
      new ApiRequester(this.url, readFileSync(plan.caFile, "utf8"), parts.token),
    );
  }

  /** Resolves when the API server is ready. @throws {LabError} `NOT_READY` with the end of its log */
  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    await Promise.all([program("kube-apiserver"), program("etcd"), program("kubectl")]);
    for (let attempt = 1; ; attempt++) {
      try {
        return await ControlPlane.#tryStart(options);
      } catch (error) {
        const isTaken = error instanceof LabError && /address already in use/.test(error.message);
        if (!isTaken || attempt === ATTEMPTS) throw error;
      }
    }
  }

  static async #tryStart(options: ControlPlaneOptions): Promise<ControlPlane> {
    await using undo = new AsyncDisposableStack();
    const dir = undo.use(TempDir.create("ambit-kube-api"));
    const parts = await prepareControlPlane(dir, options);
    const [etcd = 0, free = 0] = await freePorts(2);
    const ports = { etcd, api: options.port ?? free };
    const flags = etcdFlags(dir.file("etcd"), ports.etcd);
    undo.use(await startProgram("etcd", flags, dir.file("etcd.log")));
    const plane = new ControlPlane(parts, ports, undo.move());
    try {
      await plane.#startApiServer();
      await writeKubeconfig({
        file: plane.kubeconfig,
        url: plane.url,
        caFile: plane.caFile,
        user: { token: plane.token },
      });
      if (options.crds !== undefined) await plane.applyCrds(...options.crds);
      const { controllerManager: controllers = false } = options;
      if (controllers !== false)
        await plane.controllerManager(controllers === true ? undefined : controllers);
      if (options.scheduler === true) await plane.scheduler();
      return plane;
    } catch (error) {
      await plane[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** As the administrator unless told otherwise. A failing command is a result, or an error by `allowFailure: false`. */
  async kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<KubectlResult> {
    const { stdin, allowFailure = true, timeoutMs = 60_000 } = options;
    const flags = [
      `--kubeconfig=${options.kubeconfig ?? this.kubeconfig}`,
      `--cache-dir=${this.dir}/kubectl-cache`,
    ];
    return await run([await program("kubectl"), ...flags, ...args], {
      ...(stdin === undefined ? {} : { input: stdin }),
      allowFailure,
      timeoutMs,
    });
  }

  /** A kubeconfig file of another user: by client certificate, or a service account by its token. */
  async userKubeconfig(who: ClusterUser): Promise<string> {
    const user =
      "user" in who
        ? await this.authority.client(who.user, who.groups ?? [])
        : { token: await this.serviceAccountToken(who.serviceAccount) };
    return await writeKubeconfig({
      file: `${this.dir}/user-${++this.#users}.kubeconfig`,
      url: this.url,
      caFile: this.caFile,
      user,
    });
  }

  /** By TokenRequest. Namespace and account are made where missing. */
  serviceAccountToken(options: ServiceAccountTokenOptions): Promise<string> {
    return requestToken(this.#requester, options);
  }

  /** Creates the definitions and waits until each is served. */
  async applyCrds(...sets: readonly CrdSet[]): Promise<void> {
    await createCrds(this.#requester, sets);
    await this.#poll("its CRDs", () => areServed(this.#requester));
  }

  /** Kills the API server and starts it again, on the same port and data. Resolves when it is ready. */
  async restart(): Promise<void> {
    await this.stopApiServer();
    await this.startApiServer();
  }

  /** As a crash would: connections are reset. */
  async stopApiServer(): Promise<void> {
    this.#apiServer?.kill("SIGKILL");
    await this.#apiServer?.exited;
    this.#apiServer = null;
  }

  async startApiServer(): Promise<void> {
    if (this.#apiServer === null) await this.#startApiServer();
  }

  /** Starts kube-controller-manager, with all controllers or those named; at most once. */
  async controllerManager(controllers: readonly string[] = ["*"]): Promise<void> {
    if (this.#controllerManager !== null) return;
    const flags = controllerManagerFlags(this.#plan, this.kubeconfig, controllers);
    const log = `${this.dir}/kube-controller-manager.log`;
    this.#controllerManager = await startProgram("kube-controller-manager", flags, log);
    if (!controllers.includes("*") && !controllers.includes("serviceaccount-controller")) return;
    // pods are refused until their namespace has its account
    await this.#poll("the default service account", async () => {
      const account = "/api/v1/namespaces/default/serviceaccounts/default";
      return (await this.#requester.send(account)).status === 200;
    });
  }

  /** Starts kube-scheduler; at most once. */
  async scheduler(): Promise<void> {
    this.#scheduler ??= await startProgram(
      "kube-scheduler",
      schedulerFlags(this.kubeconfig),
      `${this.dir}/kube-scheduler.log`,
    );
  }

  /** What was asked so far; needs `auditLog`. Both stages of a watch are told. */
  auditEvents(): Promise<AuditEvent[]> {
    return readAuditLog(`${this.dir}/audit.log`);
  }

  /** For error messages and curious people. */
  logFile(
    program: "etcd" | "kube-apiserver" | "kube-controller-manager" | "kube-scheduler",
  ): string {
    return `${this.dir}/${program}.log`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const children = [this.#scheduler, this.#controllerManager, this.#apiServer].filter(
      (child) => child !== null,
    );
    for (const child of children) child.kill("SIGKILL"); // nothing is worth an orderly end
    for (const child of children) await child.exited;
    await this.#owned[Symbol.asyncDispose]();
  }

  async #startApiServer(): Promise<void> {
    const flags = apiServerFlags(this.#plan, this.#ports.api, this.#ports.etcd);
    const log = this.logFile("kube-apiserver");
    this.#apiServer = await startProgram("kube-apiserver", flags, log);
    await this.#poll("/readyz", async () => await isReady(this.#requester));
  }

  /** @throws {LabError} `NOT_READY` when the API server ends meanwhile, or time is over */
  async #poll(what: string, isDone: () => Promise<boolean | undefined>): Promise<void> {
    const deadline = Date.now() + READY_MS;
    for (;;) {
      const server = this.#apiServer;
      if (server === null || !server.running || Date.now() > deadline)
        throw new LabError("NOT_READY", `kube-apiserver: no ${what}\n${server?.tail(25) ?? ""}`);
      if ((await isDone().catch(() => false)) === true) return;
      await sleep(POLL_MS);
    }
  }
}

const isReady = async (api: ApiRequester): Promise<boolean> =>
  (await api.send("/readyz", { timeoutMs: 2_000 })).status === 200;

const bracket = (address: string): string => (address.includes(":") ? `[${address}]` : address);
