// The call itself as a runtime describes it: CNI_* variables, and CNI_ARGS with the pod's name.
import { CNI_CODE, CniError } from "./errors.ts";

export const COMMANDS = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] as const;
export type Command = (typeof COMMANDS)[number];

export interface Environment {
  readonly [name: string]: string | undefined;
}

export interface Call {
  readonly command: Command;
  readonly containerId: string;
  readonly ifName: string;
  readonly netns: string;
  readonly args: PodArgs;
  /** The runtime insists on a namespace that is the plugin's own. */
  readonly allowsOwnNetns: boolean;
}

/** Who the sandbox is for; empty strings outside Kubernetes. */
export interface PodArgs {
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
}

const NEEDED: Readonly<Record<Command, readonly string[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
  GC: [],
  STATUS: [],
  VERSION: [],
};
const CONTAINER_ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const INTERFACE = /^(?!\.{1,2}$)[^/:\s]{1,15}$/;

/** @throws {CniError} 4 for a command or variable that is missing or malformed */
export function parseCall(env: Environment): Call {
  const command = COMMANDS.find((c) => c === env["CNI_COMMAND"]);
  if (command === undefined)
    throw new CniError(
      CNI_CODE.badEnvironment,
      `Unknown CNI_COMMAND ${JSON.stringify(env["CNI_COMMAND"])}`,
    );
  const missing = NEEDED[command].filter((name) => (env[name] ?? "") === "");
  if (missing.length > 0)
    throw new CniError(
      CNI_CODE.badEnvironment,
      `Required environment variables are missing: ${missing.join(", ")}`,
    );
  const containerId = env["CNI_CONTAINERID"] ?? "";
  if (containerId !== "" && !CONTAINER_ID.test(containerId))
    throw new CniError(CNI_CODE.badEnvironment, `Not a container id: ${containerId}`);
  const ifName = env["CNI_IFNAME"] ?? "";
  if (ifName !== "" && !INTERFACE.test(ifName))
    throw new CniError(CNI_CODE.badEnvironment, `Not an interface name: ${ifName}`);
  return {
    command,
    containerId,
    ifName,
    netns: env["CNI_NETNS"] ?? "",
    args:
      command === "ADD" || command === "CHECK"
        ? parseArgs(env["CNI_ARGS"] ?? "")
        : { podName: "", podNamespace: "", podUid: "" },
    allowsOwnNetns: isTrue(env["CNI_NETNS_OVERRIDE"]),
  };
}

const KNOWN = new Set([
  "K8S_POD_NAME",
  "K8S_POD_NAMESPACE",
  "K8S_POD_UID",
  "K8S_POD_INFRA_CONTAINER_ID",
  "IgnoreUnknown",
]);

/** `k=v;k=v`. @throws {CniError} 4 for a pair without exactly one `=`, or an unknown key not to be ignored */
export function parseArgs(text: string): PodArgs {
  const pairs = new Map<string, string>();
  for (const pair of text === "" ? [] : text.split(";")) {
    const parts = pair.split("=");
    if (parts.length !== 2)
      throw new CniError(
        CNI_CODE.badEnvironment,
        `CNI_ARGS: not key=value: ${JSON.stringify(pair)}`,
      );
    pairs.set(parts[0] ?? "", parts[1] ?? "");
  }
  const unknown = [...pairs.keys()].filter((key) => !KNOWN.has(key));
  if (unknown.length > 0 && !isTrue(pairs.get("IgnoreUnknown")))
    throw new CniError(CNI_CODE.badEnvironment, `CNI_ARGS: unknown keys ${unknown.join(", ")}`);
  return {
    podName: pairs.get("K8S_POD_NAME") ?? "",
    podNamespace: pairs.get("K8S_POD_NAMESPACE") ?? "",
    podUid: pairs.get("K8S_POD_UID") ?? "",
  };
}

function isTrue(text: string | undefined): boolean {
  return text === "1" || text?.toLowerCase() === "true";
}
