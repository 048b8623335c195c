// The commands of CNI. ADD puts the pod into the mesh before the runtime starts its containers: the
// agent installs the rules, hands the namespace to the proxy, and only then answers 200. Without that
// answer ADD fails and the pod waits (fail closed).
import { statSync } from "node:fs";
import { join } from "node:path";
import { askAgent, type AgentReply } from "./agent-client.ts";
import { parseConfig, type PluginConfig } from "./config.ts";
import { parseCall, type Call, type Environment } from "./environment.ts";
import { CNI_CODE, CniError } from "./errors.ts";
import { dropOldBackups, PluginLog } from "./log.ts";
import { addResult, resultIps } from "./result.ts";
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
      await check(call, config);
      return "";
    case "STATUS":
      requireVersion(config, "1.1.0", "STATUS");
      await status(config);
      return "";
    case "GC":
      requireVersion(config, "1.1.0", "GC");
      await collectGarbage(config);
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
  const reply = await tell(call, config, "/cmdadd");
  if (reply.status !== 200)
    throw new CniError(
      CNI_CODE.other,
      `Cannot add pod ${podOf(call)} to the mesh: the node agent answered ${reply.status}: ${reply.body.trim()}`,
    );
  log.write("info", "agent accepted the pod", {
    ...describe(call),
    durationMs: Math.round(performance.now() - started),
  });
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
async function check(call: Call, config: PluginConfig): Promise<void> {
  if (passReason(call, config) !== null) return;
  const reply = await tell(call, config, "/cmdcheck");
  // Istio's agent does not know the question
  if (reply.status === 200 || reply.status === 404) return;
  throw new CniError(
    CNI_CODE.other,
    `Pod ${podOf(call)} is not as it should be: ${reply.body.trim()}`,
  );
}

async function status(config: PluginConfig): Promise<void> {
  if (!config.ambientEnabled) return;
  const reply = await ask(config, "GET", "/status", "", CNI_CODE.notAvailable);
  if (reply.status === 200 || reply.status === 404) return;
  throw new CniError(CNI_CODE.notAvailable, `The node agent is not ready: ${reply.body.trim()}`);
}

/** Lets the agent forget sandboxes that no longer exist. */
async function collectGarbage(config: PluginConfig): Promise<void> {
  if (!config.ambientEnabled) return;
  const body = JSON.stringify({ name: config.name, validAttachments: config.validAttachments });
  const reply = await ask(config, "POST", "/cmdgc", body, CNI_CODE.tryLater);
  if (reply.status === 200 || reply.status === 404) return;
  throw new CniError(CNI_CODE.other, `The node agent answered ${reply.status}`, reply.body.trim());
}

/** The event of ADD and CHECK. The body is Istio's to the letter; what it has no field for goes into headers. */
function tell(call: Call, config: PluginConfig, path: string): Promise<AgentReply> {
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
  return ask(config, "POST", path, JSON.stringify(event), CNI_CODE.other, headers);
}

async function ask(
  config: PluginConfig,
  method: "GET" | "POST",
  path: string,
  body: string,
  code: (typeof CNI_CODE)[keyof typeof CNI_CODE],
  headers: Readonly<Record<string, string>> = {},
): Promise<AgentReply> {
  const socket = join(config.agentRunDir, "pluginevent.sock");
  try {
    return await askAgent(socket, method, path, body, { headers });
  } catch (cause) {
    throw new CniError(
      code,
      `Cannot reach the node agent at ${socket}: ${cause instanceof Error ? cause.message : String(cause)}`,
      "the pod starts once the agent (istio-cni-node) runs on this node",
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
