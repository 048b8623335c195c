// L4 policy as ztunnels evaluate it. Source: istio authorization.proto; semantics in rbac.ts.
import type { Cidr } from "../net/cidr.ts";

export type StringMatch =
  | { readonly kind: "exact"; readonly value: string }
  | { readonly kind: "prefix"; readonly value: string }
  | { readonly kind: "suffix"; readonly value: string }
  | { readonly kind: "presence" };

export interface ServiceAccountMatch {
  readonly namespace: string;
  readonly serviceAccount: string;
}

/** All kinds must hold; within one kind any positive entry, and no negative one. */
export interface Match {
  readonly namespaces: readonly StringMatch[];
  readonly notNamespaces: readonly StringMatch[];
  readonly serviceAccounts: readonly ServiceAccountMatch[];
  readonly notServiceAccounts: readonly ServiceAccountMatch[];
  readonly principals: readonly StringMatch[];
  readonly notPrincipals: readonly StringMatch[];
  readonly sourceIps: readonly Cidr[];
  readonly notSourceIps: readonly Cidr[];
  readonly destinationIps: readonly Cidr[];
  readonly notDestinationIps: readonly Cidr[];
  readonly destinationPorts: readonly number[];
  readonly notDestinationPorts: readonly number[];
}

export interface Authorization {
  /** Resource name, `namespace/name`: how workloads refer to it. */
  readonly key: string;
  readonly name: string;
  readonly namespace: string;
  readonly scope: "Global" | "Namespace" | "WorkloadSelector";
  readonly action: "Allow" | "Deny";
  /** OR of rules; a rule is an AND of clauses; a clause an OR of matches. */
  readonly rules: readonly (readonly (readonly Match[])[])[];
  readonly dryRun: boolean;
}
