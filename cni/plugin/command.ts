// The commands of CNI. ADD puts the pod into the mesh before the runtime starts its containers: the
// agent installs the rules, hands the namespace to the proxy, and only then answers 200. Without that
// answer ADD fails and the pod waits (fail closed), unless the cluster says that it is no pod of the mesh.
import { statSync } from "node:fs";
import { join } from "node:path";
import { askAgent } from "./agent-client.ts";
import { parseConfig, type PluginConfig } from "./config.ts";
import { parseCall, type Call, type Environment } from "./environment.ts";
import { CNI_CODE, CniError } from "./errors.ts";
import type { HttpReply } from "./http-exchange.ts";
import { dropOldBackups, PluginLog } from "./log.ts";
import { addResult, resultIps } from "./result.ts";
import { secondOpinion } from "./second-opinion.ts";
import { isAtLeast, SUPPORTED_VERSIONS } from "./version.ts";

/** Pods of the agent itself: after a reboot nobody else could let the agent start. */
const AGENT_POD_PREFIX = "istio-cni-node-";

export interface Done {
  /** Standard output: a result, or nothing. */
  readonly stdout: string;
  /** What is still to be written to the agent's log; bounded by a second. */
  readonly afterwards: () => Promise<void>;
}

/** @throws {CniError} and anything untyped, both printed by `errorResult` */
export async function runCommand(env: Environment, readStdin: () => string): Promise<Done> {
  const call = parseCall(env);
  if (call.command === "VERSION")
    return printed(
      `${JSON.stringify({ cniVersion: "1.1.0", supportedVersions: SUPPORTED_VERSIONS })}\n`,
    );
  const config = parseConfig(readStdin());
  const log = new PluginLog(config.agentRunDir, config.logLevel);
  const afterwards = (): Promise<void> => log.flush();
  try {
    const stdout = await runParsed(call, config, log);
    return { stdout, afterwards };
  } catch (error) {
    log.write("error", `${call.command} failed`, {
      ...describe(call),
      error: error instanceof Error ? error.message : String(error),
    });
    await log.flush();
    throw error;
  }
}

async function runParsed(call: Call, config: PluginConfig, log: PluginLog): Promise<string> {
  switch (call.command) {
    case "ADD": {
      await add(call, config, log);
      refuseOwnNetns(call);
      return addResult(config);
    }
    case "DEL":
      // nothing of ours outlives the namespace, and the agent sees the pod go by itself
      dropOldBackups(config.agentRunDir);
      refuseOwnNetns(call);
      return "";
    case "CHECK":
      requireVersion(config, "0.4.0", "CHECK");
      await check(call, config, log);
      return "";
    case "STATUS":
      // a runtime that hears "not ready" starts no pod at all, the agent's included
      requireVersion(config, "1.1.0", "STATUS");
      return "";
    case "GC":
      requireVersion(config, "1.1.0", "GC");
      await collectGarbage(config, log);
      return "";
    case "VERSION":
      return "";
    default:
      return call.command satisfies never;
  }
}

async function add(call: Call, config: PluginConfig, log: PluginLog): Promise<void> {
  const why = passReason(call, config);
  if (why !== null) {
    log.write("debug", "pod passed over", { ...describe(call), why });
    return;
  }
  const started = performance.now();
  const refusal = await refusalOf(call, config, "/cmdadd");
  if (refusal !== null) return mayStartOutside(call, config, log, refusal);
  log.write("info", "agent accepted the pod", {
    ...describe(call),
    durationMs: Math.round(performance.now() - started),
  });
}

/** Why the agent does not vouch for a pod. */
interface Refusal {
  readonly error: CniError;
  /** The agent knows that the pod belongs to the mesh. */
  readonly isOfMesh: boolean;
}

/** `null` when the agent vouches for the pod. */
async function refusalOf(
  call: Call,
  config: PluginConfig,
  path: "/cmdadd" | "/cmdcheck",
): Promise<Refusal | null> {
  try {
    const reply = await tell(call, config, path);
    // Istio's agent knows only one question
    if (reply.status === 200 || (reply.status === 404 && path === "/cmdcheck")) return null;
    const what =
      path === "/cmdadd"
        ? `Cannot add pod ${podOf(call)} to the mesh`
        : `Pod ${podOf(call)} is not as it should be`;
    const text = `${what}: the node agent answered ${reply.status}: ${reply.body.trim()}`;
    return {
      error: new CniError(CNI_CODE.other, text),
      isOfMesh: reply.headers.has("ambit-pod-of-mesh"),
    };
  } catch (error) {
    if (error instanceof CniError) return { error, isOfMesh: false };
    throw error;
  }
}

/** @throws {CniError} the refusal, unless the cluster clearly says that the pod is not of the mesh */
async function mayStartOutside(
  call: Call,
  config: PluginConfig,
  log: PluginLog,
  { error: refusal, isOfMesh }: Refusal,
): Promise<void> {
  if (isOfMesh) throw refusal;
  const opinion = await secondOpinion(call.args, config);
  if (opinion.kind === "outside") {
    log.write("warn", "pod is outside the mesh and passes without the agent", {
      ...describe(call),
      why: opinion.why,
      agent: refusal.message,
    });
    return;
  }
  if (opinion.kind === "inside") throw refusal;
  const details = [refusal.details, opinion.why].filter((text) => text !== "").join("; ");
  throw new CniError(refusal.code, refusal.message, details, { cause: refusal });
}

/** Why a pod starts without asking the agent; `null` when the agent is to be asked. */
function passReason(call: Call, config: PluginConfig): string | null {
  const { podName, podNamespace } = call.args;
  if (podName.startsWith(AGENT_POD_PREFIX) && podNamespace === config.podNamespace)
    return "the node agent itself";
  if (!config.ambientEnabled) return "ambient mode is off";
  if (podName === "" || podNamespace === "") return "not a Kubernetes pod";
  if (config.excludeNamespaces.includes(podNamespace)) return "excluded namespace";
  return null;
}

/** Asks whether the rules and the proxy's listeners are really there. */
async function check(call: Call, config: PluginConfig, log: PluginLog): Promise<void> {
  if (passReason(call, config) !== null) return;
  const refusal = await refusalOf(call, config, "/cmdcheck");
  if (refusal !== null) await mayStartOutside(call, config, log, refusal);
}

/** Lets the agent forget sandboxes that no longer exist; one that is away looks for itself when it starts. */
async function collectGarbage(config: PluginConfig, log: PluginLog): Promise<void> {
  if (!config.ambientEnabled) return;
  const body = JSON.stringify({ name: config.name, validAttachments: config.validAttachments });
  try {
    const reply = await ask(config, "/cmdgc", body);
    if (reply.status === 200 || reply.status === 404) return;
    log.write("warn", "the agent did not take the list of sandboxes", { reply: reply.body.trim() });
  } catch (error) {
    log.write("warn", "the agent is not there for the list of sandboxes", { error: String(error) });
  }
}

/** The event of ADD and CHECK. The body is Istio's to the letter; what it has no field for goes into headers. */
function tell(call: Call, config: PluginConfig, path: string): Promise<HttpReply> {
  const event = {
    Netns: call.netns,
    PodName: call.args.podName,
    PodNamespace: call.args.podNamespace,
    IPs: resultIps(config),
  };
  const headers = {
    "ambit-pod-uid": call.args.podUid,
    "ambit-container-id": call.containerId,
    "ambit-network": config.name,
  };
  return ask(config, path, JSON.stringify(event), headers);
}

async function ask(
  config: PluginConfig,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<HttpReply> {
  const socket = join(config.agentRunDir, "pluginevent.sock");
  try {
    return await askAgent(socket, "POST", path, body, { headers });
  } catch (cause) {
    throw new CniError(
      CNI_CODE.other,
      `Cannot reach the node agent at ${socket}: ${cause instanceof Error ? cause.message : String(cause)}`,
      "a pod of the mesh starts once the agent (istio-cni-node) runs on this node",
      { cause },
    );
  }
}

/** A namespace equal to ours means the runtime meant the host. */
function refuseOwnNetns(call: Call): void {
  if (call.netns === "" || call.allowsOwnNetns) return;
  try {
    const [given, own] = [statSync(call.netns), statSync("/proc/self/ns/net")];
    if (given.dev !== own.dev || given.ino !== own.ino) return;
  } catch {
    return; // gone, which DEL must accept
  }
  throw new CniError(
    CNI_CODE.ownNamespace,
    `CNI_NETNS ${call.netns} is the plugin's own network namespace`,
  );
}

function requireVersion(config: PluginConfig, least: "0.4.0" | "1.1.0", command: string): void {
  if (!isAtLeast(config.cniVersion, least))
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `${command} needs CNI version ${least}, the configuration has ${config.cniVersion}`,
    );
}

function podOf(call: Call): string {
  return `${call.args.podNamespace}/${call.args.podName}`;
}

function describe(call: Call): Record<string, unknown> {
  return {
    command: call.command,
    pod: podOf(call),
    netns: call.netns,
    container: call.containerId,
  };
}

function printed(stdout: string): Done {
  return { stdout, afterwards: () => Promise.resolve() };
}
