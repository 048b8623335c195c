// The network configuration a runtime hands over on standard input, parsed once.
import { compileSelectors, type EnrolmentSelector } from "../enrolment/selectors.ts";
import { CNI_CODE, CniError } from "./errors.ts";
import { formatOf, parseCniVersion, SUPPORTED_VERSIONS, type CniVersion } from "./version.ts";

type Json = Readonly<Record<string, unknown>>;

export interface Attachment {
  readonly containerID: string;
  readonly ifname: string;
}

export interface PluginConfig {
  readonly cniVersion: CniVersion;
  readonly name: string;
  /** What earlier plugins of the chain made; printed back unchanged. */
  readonly prevResult: Json | null;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  /** Directory of the agent's sockets and of our log file. */
  readonly agentRunDir: string;
  readonly ambientEnabled: boolean;
  readonly excludeNamespaces: readonly string[];
  /** Which pods belong to the mesh; `null` when the configuration does not say. */
  readonly selectors: readonly EnrolmentSelector[] | null;
  /** Ask the cluster for half a minute before giving up. */
  readonly isPatient: boolean;
  /** Namespace of the agent itself. */
  readonly podNamespace: string;
  /** GC only: attachments that still exist. */
  readonly validAttachments: readonly Attachment[];
}

const DEFAULT_RUN_DIR = "/var/run/istio-cni";
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

/** @throws {CniError} 6 for what is not JSON, 7 for a missing name, 1 for an unknown version */
export function parseConfig(text: string): PluginConfig {
  const json = parseObject(text);
  const { name } = json;
  if (typeof name !== "string" || name === "")
    throw new CniError(CNI_CODE.badConfig, "The network configuration has no name");
  if (!NAME.test(name))
    throw new CniError(CNI_CODE.badConfig, `Not a network name: ${JSON.stringify(name)}`);
  const cniVersion = parseCniVersion(json["cniVersion"]);
  if (cniVersion === null)
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `Unsupported CNI version ${JSON.stringify(json["cniVersion"])}`,
      `supported: ${SUPPORTED_VERSIONS.join(", ")}`,
    );
  return {
    cniVersion,
    name,
    prevResult: parsePrevResult(json["prevResult"], cniVersion),
    logLevel: parseLevel(json["plugin_log_level"]),
    agentRunDir: stringOr(json, "cni_agent_run_dir", DEFAULT_RUN_DIR),
    ambientEnabled: json["ambient_enabled"] !== false,
    excludeNamespaces: stringList(json["exclude_namespaces"]),
    selectors: parseSelectors(json["enablement_selectors"]),
    isPatient: json["enable_ambient_detection_retry"] === true,
    podNamespace: stringOr(json, "pod_namespace", ""),
    validAttachments: parseAttachments(json["cni.dev/valid-attachments"]),
  };
}

function parseObject(text: string): Json {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CniError(CNI_CODE.decoding, "The network configuration is not JSON", String(cause));
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new CniError(CNI_CODE.decoding, "The network configuration is not a JSON object");
  return json as Json;
}

/** A result is of the configuration's version, or of another with the same format. */
function parsePrevResult(value: unknown, version: CniVersion): Json | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "object" || Array.isArray(value))
    throw new CniError(CNI_CODE.decoding, "prevResult is not a JSON object");
  const result = value as Json;
  const own = result["cniVersion"];
  const parsed = own === undefined || own === "" ? version : parseCniVersion(own);
  if (parsed === null || formatOf(parsed) !== formatOf(version))
    throw new CniError(
      CNI_CODE.incompatibleVersion,
      `prevResult has version ${JSON.stringify(own)}, the configuration ${version}`,
    );
  return result;
}

function parseLevel(value: unknown): PluginConfig["logLevel"] {
  return value === "debug" || value === "warn" || value === "error" ? value : "info";
}

function stringOr(json: Json, key: string, fallback: string): string {
  const value = json[key];
  if (value === undefined || value === null || value === "") return fallback;
  if (typeof value === "string") return value;
  throw new CniError(CNI_CODE.badConfig, `${key} is not a string`);
}

function stringList(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((v) => typeof v === "string")) return value;
  throw new CniError(CNI_CODE.badConfig, "exclude_namespaces is not a list of strings");
}

function parseSelectors(value: unknown): readonly EnrolmentSelector[] | null {
  if (value === undefined || value === null) return null;
  try {
    return compileSelectors(value);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CniError(CNI_CODE.badConfig, "Cannot read enablement_selectors", why);
  }
}

function parseAttachments(value: unknown): Attachment[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value))
    throw new CniError(CNI_CODE.badConfig, "cni.dev/valid-attachments is not a list");
  return value.map((entry: unknown) => {
    const { containerID, ifname } = (entry ?? {}) as Partial<Attachment>;
    if (typeof containerID !== "string" || typeof ifname !== "string")
      throw new CniError(CNI_CODE.badConfig, "A valid attachment has no containerID or ifname");
    return { containerID, ifname };
  });
}
