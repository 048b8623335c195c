// What goes wrong between us and the objects of a cluster, as a command's failure with the next step.
import type { KubeError } from "#lib/kube/errors.ts";
import { CliError, type CliErrorCode } from "../errors.ts";
import { missingKindHint } from "./missing-kind.ts";

type Failure = readonly [code: CliErrorCode, ...hints: readonly string[]];

const FAILURES: Record<KubeError["code"], Failure> = {
  NOT_FOUND: ["NOT_FOUND"],
  INVALID: ["BAD_INPUT"],
  MALFORMED: ["BAD_INPUT"],
  DUPLICATE: ["BAD_INPUT"],
  BUSY: ["TIMEOUT"],
  CONFLICT: ["CONFLICT"],
  ALREADY_EXISTS: ["CONFLICT"],
  NOT_SERVED: ["NOT_FOUND", "ambit check --pre says what else a cluster lacks"],
  UNAUTHORIZED: [
    "UNAUTHORIZED",
    "the credentials are missing, wrong or expired: log in to the cluster again",
    "another user: --context, --kubeconfig",
  ],
  FORBIDDEN: [
    "FORBIDDEN",
    "ask whoever runs the cluster for this permission",
    "another user: --context, --kubeconfig or --as",
  ],
  EXPIRED: ["FAILED"],
  UNAVAILABLE: [
    "UNREACHABLE",
    "is the cluster running, and is this the right one? --context, --kubeconfig",
  ],
  TIMEOUT: ["TIMEOUT", "give it longer with --timeout"],
  CONFIG: ["UNREACHABLE", "name a kubeconfig with --kubeconfig or KUBECONFIG"],
  IO: ["FAILED"],
};

export function fromKubeError(error: KubeError): CliError {
  // 500 is an answer to what was asked, such as a field that server-side apply does not know.
  if (error.code === "UNAVAILABLE" && error.status === 500)
    return new CliError("FAILED", error.message, [], error);
  const [code, ...hints] = FAILURES[error.code];
  const first = error.code === "NOT_SERVED" ? [missingKindHint(error.group)] : [];
  return new CliError(code, error.message, [...first, ...hints], error);
}
