// What a container wrote.
import type { ApiServer } from "./api-server.ts";

export interface PodLogsOptions {
  readonly namespace: string;
  readonly pod: string;
  readonly container?: string;
  /** Stays until the container ends. */
  readonly follow?: boolean;
  /** Of the container's previous run. */
  readonly previous?: boolean;
  readonly timestamps?: boolean;
  readonly tailLines?: number;
  readonly sinceSeconds?: number;
  readonly limitBytes?: number;
  readonly signal?: AbortSignal;
}

/** Longer lines are cut into pieces of this size. */
const MAX_LINE_LENGTH = 1024 * 1024;

/** Lines without their newline, until the log or `signal` ends. @throws {KubeError} */
export async function* podLogs(
  apiServer: ApiServer,
  options: PodLogsOptions,
): AsyncGenerator<string, void, undefined> {
  const { namespace, pod, signal } = options;
  const response = await apiServer.stream({
    method: "GET",
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}/log`,
    query: {
      container: options.container,
      follow: options.follow === true ? "true" : undefined,
      previous: options.previous === true ? "true" : undefined,
      timestamps: options.timestamps === true ? "true" : undefined,
      tailLines: options.tailLines?.toString(),
      sinceSeconds: options.sinceSeconds?.toString(),
      limitBytes: options.limitBytes?.toString(),
    },
    accept: "*/*",
    subject: {
      verb: "get",
      kind: "logs of Pod",
      group: "",
      resource: "pods/log",
      namespace,
      name: pod,
    },
    ...(signal === undefined ? {} : { signal }),
  });
  try {
    let rest = "";
    response.setEncoding("utf8");
    for await (const chunk of response as AsyncIterable<string>) {
      rest += chunk;
      let from = 0;
      for (let at = rest.indexOf("\n"); at >= 0; at = rest.indexOf("\n", from)) {
        yield rest.slice(from, at);
        from = at + 1;
      }
      rest = rest.slice(from);
      if (rest.length > MAX_LINE_LENGTH) {
        yield rest;
        rest = "";
      }
    }
    if (rest !== "") yield rest;
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  } finally {
    response.destroy();
  }
}
