// What the cluster says of a pod that the agent did not let in: whether it is to be outside the mesh and
// may start without the agent. Only a clear answer counts; whatever is not known keeps the pod waiting.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import { isPodOf, wishFor } from "../enrolment/wish.ts";
import type { PluginConfig } from "./config.ts";
import type { PodArgs } from "./environment.ts";
import { exchange, type HttpReply } from "./http-exchange.ts";
import { parseKubeconfig, type ApiAccess } from "./kubeconfig.ts";

export type Opinion =
  | { readonly kind: "outside"; readonly why: string }
  | { readonly kind: "inside" }
  | { readonly kind: "unknown"; readonly why: string };

const KUBECONFIG = "istio-cni-kubeconfig";
const RETRY_PAUSE_MS = 1_000;
const RETRIES = 1;
/** With `enable_ambient_detection_retry`; kubelet gives a sandbox four minutes. */
const PATIENT_RETRIES = 30;
const GET_TIMEOUT_MS = 5_000;
const MAX_OBJECT_BYTES = 4 << 20;

/** Never throws. @param pause  waits before another attempt */
export async function secondOpinion(
  args: PodArgs,
  config: PluginConfig,
  pause: (ms: number) => Promise<void> = sleep,
): Promise<Opinion> {
  if (config.selectors === null)
    return { kind: "unknown", why: "the configuration has no enablement_selectors" };
  const path = join(config.agentRunDir, KUBECONFIG);
  let text = readOrNull(path);
  if (text === null) return { kind: "unknown", why: `there is no ${path}` };
  const retries = config.isPatient ? PATIENT_RETRIES : RETRIES;
  for (let attempt = 0; ; attempt++)
    try {
      return await ask(parseKubeconfig(text), args, config);
    } catch (error) {
      const why = `cannot ask the cluster: ${error instanceof Error ? error.message : String(error)}`;
      if (attempt === retries) return { kind: "unknown", why };
      await pause(RETRY_PAUSE_MS);
      text = readOrNull(path) ?? text; // the agent may have written a new token
    }
}

async function ask(access: ApiAccess, args: PodArgs, config: PluginConfig): Promise<Opinion> {
  const { podName, podNamespace, podUid } = args;
  const inNamespace = `/api/v1/namespaces/${encodeURIComponent(podNamespace)}`;
  const [pod, namespace] = await Promise.all([
    get<Pod>(access, `${inNamespace}/pods/${encodeURIComponent(podName)}`),
    get<Namespace>(access, inNamespace),
  ]);
  if (podUid !== "" && !isPodOf(pod, podUid))
    return { kind: "unknown", why: `the cluster knows the pod as ${pod.metadata.uid}` };
  const wish = wishFor(pod, namespace, {
    selectors: config.selectors ?? [],
    excludeNamespaces: new Set(config.excludeNamespaces),
  });
  switch (wish.kind) {
    case "leave out":
      return { kind: "outside", why: wish.why };
    case "enrol":
      return { kind: "inside" };
    case "ended":
      return { kind: "unknown", why: "the pod has ended" };
    default:
      return wish satisfies never;
  }
}

async function get<T extends Pod | Namespace>(access: ApiAccess, path: string): Promise<T> {
  const reply = await request(access, path);
  if (reply.status !== 200) throw new Error(`GET ${path}: ${reply.status} ${reasonOf(reply.body)}`);
  const object = JSON.parse(reply.body) as Partial<T> | null;
  if (typeof object?.metadata?.name !== "string") throw new Error(`GET ${path}: no object`);
  return object as T;
}

function request(access: ApiAccess, path: string): Promise<HttpReply> {
  const { host, port } = access;
  // loaded only here: a pod that the agent lets in never pays for it
  const stream = access.isTls
    ? process.getBuiltinModule("node:tls").connect({
        host,
        port,
        ALPNProtocols: ["http/1.1"],
        rejectUnauthorized: !access.isUnverified,
        ...(access.ca === null ? {} : { ca: access.ca }),
        ...(access.serverName === null ? {} : { servername: access.serverName }),
      })
    : process.getBuiltinModule("node:net").connect({ host, port });
  return exchange(stream, {
    method: "GET",
    path,
    host: `${host.includes(":") ? `[${host}]` : host}:${port}`,
    headers: {
      Accept: "application/json",
      Authorization: `Bearer ${access.token}`,
      "User-Agent": "istio-cni-plugin",
    },
    timeoutMs: GET_TIMEOUT_MS,
    maxReplyBytes: MAX_OBJECT_BYTES,
  });
}

/** The message of a Kubernetes Status, else nothing. */
function reasonOf(body: string): string {
  try {
    const { message } = JSON.parse(body) as { message?: unknown };
    return typeof message === "string" ? message.slice(0, 200) : "";
  } catch {
    return "";
  }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
