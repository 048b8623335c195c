// The answer to "may A reach B, by which way, and if not, what would help": the JSON of `ambit explain connection`.
import type { NearestMiss } from "./rbac-evidence.ts";
import type { Stage, StageId } from "./stage.ts";

export type ExplanationVerdict =
  /** Encrypted and authenticated all the way, and policy lets it through. */
  | "allowed"
  /** Refused by the destination. */
  | "denied"
  /** The source's node has nowhere to send it, or the destination no port to end it at. */
  | "unroutable"
  /** It gets through, but some part of the way without encryption and identity. */
  | "plaintext";

export interface Hop {
  /** From 1. */
  readonly hop: number;
  readonly kind: "source" | "waypoint" | "endpoint" | "external";
  readonly namespace: string | null;
  readonly name: string | null;
  readonly node: string | null;
  /** How this hop is reached; null for the source. */
  readonly protocol: "HBONE" | "TCP" | null;
  readonly identity: string | null;
  /** `ip:port`, a bare address for the source, or a host name that is still to be resolved. */
  readonly address: string;
}

export interface Fix {
  readonly text: string;
  readonly command?: string;
}

export interface Explanation {
  readonly apiVersion: "ambit/v1";
  readonly kind: "Explanation";
  readonly verdict: ExplanationVerdict;
  /** The stage that ended it; null when nothing did. */
  readonly deniedAt: StageId | null;
  readonly path: readonly Hop[];
  readonly stages: readonly Stage[];
  readonly nearestMiss: NearestMiss | null;
  /** What a reader would otherwise overlook. */
  readonly notes: readonly string[];
  readonly fixes: readonly Fix[];
  /** `live`: from a running node; `snapshot`: from a dump. */
  readonly confidence: "live" | "snapshot";
}
