// Where the values of flags and arguments come from when a shell completes them; what oclif's metadata does not say.
import { LEVELS } from "#lib/obs/log-filter.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { OUTPUT_FORMATS } from "../render/output.ts";
import type { NameKind } from "./names.ts";

export type Source =
  | { readonly kind: "words"; readonly words: readonly string[] }
  /** Asked of the running lab or of the cluster, through `ambit __complete`. */
  | { readonly kind: "names"; readonly of: NameKind }
  | { readonly kind: "files" }
  /** Nothing to offer. */
  | { readonly kind: "free" };

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

const names = (of: NameKind): Source => ({ kind: "names", of });
const words = (list: readonly string[]): Source => ({ kind: "words", words: list });
const files: Source = { kind: "files" };
const free: Source = { kind: "free" };

/** By the flag's name, the same in all commands. */
export const FLAG_SOURCES: Readonly<Record<string, Source>> = {
  context: names("contexts"),
  exclude: names("pods"),
  file: files,
  from: names("peers"),
  include: names("namespaces"),
  "istio-namespace": names("namespaces"),
  kubeconfig: files,
  lab: files,
  level: words(LEVELS),
  namespace: names("namespaces"),
  node: names("nodes"),
  out: files,
  output: words(OUTPUT_FORMATS),
  overlay: files,
  "policy-namespace": names("namespaces"),
  profile: words(["base", "kind", "production"]),
  "service-account": names("accounts"),
  "service-namespace": names("namespaces"),
  to: names("peers"),
  "what-if": files,
  "workload-namespace": names("namespaces"),
  "workload-node": names("nodes"),
};

const kinds = words([...new Set(Object.values(RESOURCES).map((r) => r.plural))].sort());

/** By the command's id, in order; the last one repeats where a command takes any number. */
export const ARGUMENT_SOURCES: Readonly<Record<string, readonly Source[]>> = {
  completion: [words(SHELLS)],
  delete: [kinds, names("objects")],
  "describe:namespace": [names("namespaces")],
  "describe:node": [names("nodes")],
  "describe:pod": [names("pods")],
  "describe:service": [names("services")],
  enroll: [names("enrollable")],
  "explain:connection": [names("pods"), names("destinations")],
  get: [kinds, names("objects")],
  "lab:exec": [names("places"), free],
  "lab:run": [free],
  label: [kinds, names("objects")],
  "proxy-status": [free],
  unenroll: [names("enrollable")],
  "waypoint:delete": [names("waypoints")],
  "waypoint:status": [names("waypoints")],
  "ztunnel-config:connections": [names("pods")],
  "ztunnel-config:log": [names("pods")],
  "ztunnel-config:workload": [names("pods")],
};
