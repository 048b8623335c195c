// istio.security.Authorization → Authorization. Entries Istio drops silently are refused here: a list that
// loses its only entry no longer restricts, and a policy must never become wider by being malformed.
import type { Cidr } from "../net/cidr.ts";
import { Authorization as AuthorizationMessage } from "../wire/gen/authorization.gen.ts";
import type {
  Address as AddressMessage,
  Match as MatchMessage,
  StringMatch as StringMatchMessage,
} from "../wire/gen/authorization.gen.ts";
import type { Authorization, Match, StringMatch } from "./authorization.ts";
import { decodeCidr, decodeMessage, enumName, port16 } from "./decode-parts.ts";
import { ModelError } from "./errors.ts";

const SCOPE = ["Global", "Namespace", "WorkloadSelector"] as const;
const ACTION = ["Allow", "Deny"] as const;

/**
 * @param key  the resource name: workloads refer to a policy by it
 * @throws {ModelError} for malformed bytes, an unknown scope or action, an invalid range, an unset string matcher
 */
export function decodeAuthorization(key: string, bytes: Uint8Array): Authorization {
  return authorizationFromMessage(
    key,
    decodeMessage("Authorization", (b) => AuthorizationMessage.decode(b), bytes),
  );
}

/** @throws {ModelError} as `decodeAuthorization`, for what a message may still hold */
export function authorizationFromMessage(key: string, m: AuthorizationMessage): Authorization {
  return {
    key,
    name: m.name,
    namespace: m.namespace,
    scope: enumName("scope", SCOPE, m.scope),
    action: enumName("action", ACTION, m.action),
    rules: m.groups.map((group) => group.rules.map((rule) => rule.matches.map(matchFrom))),
    dryRun: m.dryRun,
  };
}

function matchFrom(m: MatchMessage): Match {
  return {
    namespaces: strings("namespaces", m.namespaces),
    notNamespaces: strings("not_namespaces", m.notNamespaces),
    serviceAccounts: m.serviceAccounts.map(({ namespace, serviceAccount }) => ({
      namespace,
      serviceAccount,
    })),
    notServiceAccounts: m.notServiceAccounts.map(({ namespace, serviceAccount }) => ({
      namespace,
      serviceAccount,
    })),
    principals: strings("principals", m.principals),
    notPrincipals: strings("not_principals", m.notPrincipals),
    sourceIps: ranges("source_ips", m.sourceIps),
    notSourceIps: ranges("not_source_ips", m.notSourceIps),
    destinationIps: ranges("destination_ips", m.destinationIps),
    notDestinationIps: ranges("not_destination_ips", m.notDestinationIps),
    destinationPorts: m.destinationPorts.map(port16),
    notDestinationPorts: m.notDestinationPorts.map(port16),
  };
}

function strings(field: string, list: readonly StringMatchMessage[]): StringMatch[] {
  return list.map(({ matchType }): StringMatch => {
    switch (matchType?.$case) {
      case "exact":
      case "prefix":
      case "suffix":
        return { kind: matchType.$case, value: matchType.value };
      case "presence":
        return { kind: "presence" };
      case undefined:
        throw new ModelError("MISSING_FIELD", `${field} has a matcher of no known kind`);
      default:
        return matchType satisfies never;
    }
  });
}

function ranges(field: string, list: readonly AddressMessage[]): Cidr[] {
  return list.map(({ address, length }) => decodeCidr(field, address, length));
}
