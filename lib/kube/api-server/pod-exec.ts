// Runs a command in a container and collects what it says. Each message of the WebSocket begins with a
// channel: 1 standard output, 2 standard error, 3 how it ended.
import { KubeError } from "../errors.ts";
import { isJsonObject } from "../json.ts";
import type { ApiServer } from "./api-server.ts";
import { parseStatus } from "./status-error.ts";
import { WebSocket } from "./web-socket.ts";

export interface PodExecOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly container?: string;
  readonly command: readonly string[];
  /** Bound of what is kept of each stream; more is cut. Default 16 MiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal;
}

export interface PodExecResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const MAX_BYTES = 16 * 1024 * 1024;

/** A command that fails is a result. @throws {KubeError} when it cannot be started or followed */
export async function podExec(
  apiServer: ApiServer,
  options: PodExecOptions,
): Promise<PodExecResult> {
  const { namespace, pod, container, command, maxBytes = MAX_BYTES, signal } = options;
  const upgraded = await apiServer.upgrade(
    {
      method: "GET",
      path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/exec`,
      query: { command, container, stdout: "true", stderr: "true" },
      subject: {
        verb: "create",
        kind: "exec in Pod",
        group: "",
        resource: "pods/exec",
        namespace,
        name: pod,
      },
      ...(signal === undefined ? {} : { signal }),
    },
    PROTOCOLS,
  );
  using socket = new WebSocket(upgraded);
  const stop = (): void => socket[Symbol.dispose]();
  signal?.addEventListener("abort", stop, { once: true });
  const kept: { [channel: number]: { chunks: Buffer[]; size: number } } = {
    [STDOUT]: { chunks: [], size: 0 },
    [STDERR]: { chunks: [], size: 0 },
  };
  const textOf = (channel: number): Buffer => Buffer.concat(kept[channel]?.chunks ?? []);
  try {
    for await (const message of socket.messages()) {
      const channel = message[0] ?? 0;
      const payload = message.subarray(1);
      if (channel === STATUS) {
        const code = exitCode(payload.toString("utf8"), `${namespace}/${pod}`);
        return { code, stdout: textOf(STDOUT), stderr: textOf(STDERR) };
      }
      const stream = kept[channel];
      if (stream === undefined || stream.size >= maxBytes) continue;
      const piece = payload.subarray(0, maxBytes - stream.size);
      stream.chunks.push(Buffer.from(piece));
      stream.size += piece.length;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
  }
  throw new KubeError(
    "UNAVAILABLE",
    `The command in Pod ${namespace}/${pod} ended without a status`,
  );
}

function exitCode(body: string, pod: string): number {
  const status = parseStatus(body) ?? {};
  if (status.status === "Success") return 0;
  const details = isJsonObject(status.details) ? status.details : {};
  const causes = Array.isArray(details.causes) ? details.causes.filter(isJsonObject) : [];
  const code = Number(causes.find((cause) => cause.reason === "ExitCode")?.message);
  if (Number.isInteger(code)) return code;
  const why = typeof status.message === "string" ? status.message : body;
  throw new KubeError("UNAVAILABLE", `Cannot run the command in Pod ${pod}: ${why}`);
}
