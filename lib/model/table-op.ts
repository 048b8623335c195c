// One change of the mesh tables, and what became of a refused one. Plain data: survives structured clone.

/** In the order the control plane sent them; of one response, updates come before removals. */
export type TableOp =
  /** `bytes` is a serialised istio.workload.Address. The tables keep no reference to it. */
  | { readonly op: "address"; readonly name: string; readonly bytes: Uint8Array }
  | { readonly op: "remove-address"; readonly name: string }
  /** `bytes` is a serialised istio.security.Authorization; `name` is its key. */
  | { readonly op: "policy"; readonly name: string; readonly bytes: Uint8Array }
  | { readonly op: "remove-policy"; readonly name: string };

/** A resource that was not applied; what was known under its name stays as it was. */
export interface Rejection {
  readonly name: string;
  readonly reason: string;
}
