// The API server's refusals as `KubeError`: a code to act on, and a message that says what was asked,
// what is wrong and what would help.
import { KubeError, type KubeErrorCode } from "../errors.ts";
import { isJsonObject, type JsonObject, textOf } from "../json.ts";

/** What a request is about: the words of its error messages. */
export interface Subject {
  /** As RBAC names it: get, list, watch, create, patch, delete. */
  readonly verb: string;
  readonly kind: string;
  readonly group: string;
  /** The plural, with its subresource: `services/status`. */
  readonly resource: string;
  readonly namespace: string | null;
  readonly name: string | null;
}

/** Told of a failed request. */
export interface Refusal {
  readonly status: number;
  /** The body: a `metav1.Status`, or text of something between us and the server. */
  readonly body: string;
}

const CODE_OF_REASON: Readonly<Record<string, KubeErrorCode>> = {
  AlreadyExists: "ALREADY_EXISTS",
  Conflict: "CONFLICT",
  Expired: "EXPIRED",
  Gone: "EXPIRED",
  TooManyRequests: "BUSY",
  Timeout: "TIMEOUT",
};

/** Bytes of a body that is no Status, in a message. */
const SHOWN_BYTES = 200;

export function refusalError(of: Subject, refusal: Refusal): KubeError {
  const { status, body } = refusal;
  const answer = parseStatus(body);
  const code = codeOf(status, answer);
  const said = answer === null ? shorten(body) : textOf(answer.message) || textOf(answer.reason);
  const reason = said === "" ? `HTTP status ${status}` : said;
  const field = fieldOf(answer);
  return new KubeError(code, `Cannot ${describe(of)}: ${reason}${remedy(code, of)}`, {
    status,
    group: of.group,
    ...(field === null ? {} : { field }),
  });
}

/** `patch Service shop/web`. */
export function describe({ verb, kind, namespace, name }: Subject): string {
  const where = namespace !== null && name !== null ? `${namespace}/${name}` : (name ?? "");
  const scope = namespace !== null && name === null ? ` in namespace ${namespace}` : "";
  return `${verb} ${kind}${where === "" ? "" : ` ${where}`}${scope}`;
}

/** `Retry-After` in ms: seconds or a date; `null` without. */
export function retryAfterMs(header: string | undefined, now: number): number | null {
  if (header === undefined) return null;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now;
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}

/** A `metav1.Status` as text; `null` for anything else. */
function parseStatus(body: string): JsonObject | null {
  try {
    const value: unknown = JSON.parse(body);
    return isJsonObject(value) && value.kind === "Status" ? value : null;
  } catch {
    return null;
  }
}

function codeOf(status: number, answer: JsonObject | null): KubeErrorCode {
  const byReason = CODE_OF_REASON[textOf(answer?.reason)];
  if (byReason !== undefined) return byReason;
  if (status >= 500) return "UNAVAILABLE";
  switch (status) {
    case 401:
      return "UNAUTHORIZED";
    case 403:
      return "FORBIDDEN";
    case 404:
      return answer !== null && isJsonObject(answer.details) && answer.details.name !== undefined
        ? "NOT_FOUND"
        : "NOT_SERVED";
    case 409:
      return "CONFLICT";
    case 410:
      return "EXPIRED";
    case 429:
      return "BUSY";
    default:
      return "INVALID";
  }
}

/** The first field the server complains about. */
function fieldOf(answer: JsonObject | null): string | null {
  const causes = isJsonObject(answer?.details) ? answer.details.causes : undefined;
  const first = Array.isArray(causes) ? causes.find(isJsonObject) : undefined;
  return typeof first?.field === "string" && first.field !== "" ? first.field : null;
}

function remedy(code: KubeErrorCode, of: Subject): string {
  if (code === "UNAUTHORIZED")
    return "; the credentials are missing, wrong or expired: log in again, or check the token file";
  if (code === "FORBIDDEN") {
    const group = of.group === "" ? '""' : of.group;
    const scope = of.namespace === null ? "ClusterRole" : `Role in namespace ${of.namespace}`;
    return `; it needs a ${scope} with verb ${of.verb}, resource ${of.resource}, API group ${group}`;
  }
  if (code === "NOT_SERVED") {
    const name = of.group === "" ? of.resource : `${of.resource}.${of.group}`;
    return `; the API server does not serve ${name}: is its CustomResourceDefinition installed?`;
  }
  return "";
}

function shorten(body: string): string {
  const text = body.trim();
  return text.length > SHOWN_BYTES ? `${text.slice(0, SHOWN_BYTES)}…` : text;
}
