// The steps of a decision as evidence: what `ambit explain` prints. Filled in only when a reader asks.

export type StageId =
  | "S1"
  | "S2"
  | "S3"
  | "S4"
  | "S5"
  | "S6"
  | "W1"
  | "W2"
  | "D1"
  | "D2"
  | "D3"
  | "D4"
  | "D5";

export interface StageObject {
  readonly kind: "Workload" | "Service" | "AuthorizationPolicy" | "Waypoint";
  readonly namespace: string;
  readonly name: string;
  /** From 1; policies only. */
  readonly rule?: number;
}

export interface Stage {
  readonly id: StageId;
  /** `pass`: this step changes nothing. `choose`: it decided something. `stop`: the connection ends here. */
  readonly result: "pass" | "choose" | "stop";
  readonly detail: string;
  readonly objects: readonly StageObject[];
}

export function workloadObject(w: {
  readonly namespace: string;
  readonly name: string;
}): StageObject {
  return { kind: "Workload", namespace: w.namespace, name: w.name };
}

export function serviceObject(s: {
  readonly namespace: string;
  readonly name: string;
}): StageObject {
  return { kind: "Service", namespace: s.namespace, name: s.name };
}
