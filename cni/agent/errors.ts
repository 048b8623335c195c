// Why a pod is not (yet) as its labels want it. The code decides what happens next: see reconciler.ts.

export type AgentErrorCode =
  /** A setting is missing or unreadable; every bad one is named. */
  | "BAD_CONFIG"
  /** An event of the plugin that is no event. */
  | "BAD_EVENT"
  /** The cluster knows no such pod, or knows it under another UID. */
  | "UNKNOWN_POD"
  /** No process and no remembered sandbox leads to the pod's network namespace. */
  | "NETNS_NOT_FOUND"
  /** The rules could not be written, read or removed. */
  | "RULES"
  /** No ztunnel is connected on this node. */
  | "NO_PROXY"
  /** The ztunnel answered with an error. */
  | "PROXY_REFUSED"
  /** The connection ended, or the answer took too long. */
  | "PROXY_LOST"
  /** The pod's annotation could not be written. */
  | "ANNOTATION"
  /** A signal came before the agent was ready. */
  | "STOPPED";

export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly code: AgentErrorCode;

  constructor(code: AgentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** One line for a log, an HTTP reply or an event. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${explain(error.cause)}` : "";
  return `${error.message}${cause}`;
}
