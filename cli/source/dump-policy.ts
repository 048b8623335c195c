// One policy of a config dump as the evaluator's Authorization.
import type { Authorization, Match, StringMatch } from "#lib/model/authorization.ts";
import { AddressError } from "#lib/net/ip.ts";
import { parseCidr, type Cidr } from "#lib/net/cidr.ts";
import { CliError } from "../errors.ts";
import { Json, type JsonObject } from "./json.ts";

/** @throws {CliError} BAD_INPUT for a matcher that is not understood: guessing would change the verdict */
export function policyFromDump(raw: JsonObject): Authorization {
  const name = new Json(raw, "policy").at("name").text();
  const namespace = new Json(raw, "policy").at("namespace").text();
  const p = new Json(raw, `policy ${namespace}/${name}`);
  return {
    key: `${namespace}/${name}`,
    name,
    namespace,
    scope: oneOf(p.at("scope"), ["Global", "Namespace", "WorkloadSelector"]),
    action: oneOf(p.at("action"), ["Allow", "Deny"]),
    rules: p
      .at("rules")
      .list()
      .map((rule) => rule.list().map((clause) => clause.list().map(matchFrom))),
    dryRun: p.at("dryRun").boolean(),
  };
}

function matchFrom(m: Json): Match {
  const strings = (key: string): StringMatch[] => m.at(key).list().map(stringMatch);
  const accounts = (key: string): Match["serviceAccounts"] =>
    m
      .at(key)
      .list()
      .map((a) => accountMatch(a));
  const ranges = (key: string): Cidr[] => m.at(key).list().map(range);
  const ports = (key: string): number[] =>
    m
      .at(key)
      .list()
      .map((n) => n.number());
  return {
    namespaces: strings("namespaces"),
    notNamespaces: strings("notNamespaces"),
    serviceAccounts: accounts("serviceAccounts"),
    notServiceAccounts: accounts("notServiceAccounts"),
    principals: strings("principals"),
    notPrincipals: strings("notPrincipals"),
    sourceIps: ranges("sourceIps"),
    notSourceIps: ranges("notSourceIps"),
    destinationIps: ranges("destinationIps"),
    notDestinationIps: ranges("notDestinationIps"),
    destinationPorts: ports("destinationPorts"),
    notDestinationPorts: ports("notDestinationPorts"),
  };
}

/** `{"Exact":"x"}`, `{"Prefix":"x"}`, `{"Suffix":"x"}`, `{"Presence":[]}`. */
function stringMatch(json: Json): StringMatch {
  const [[kind, value] = ["", json] as const] = json.entries();
  switch (kind) {
    case "Exact":
      return { kind: "exact", value: value.text() };
    case "Prefix":
      return { kind: "prefix", value: value.text() };
    case "Suffix":
      return { kind: "suffix", value: value.text() };
    case "Presence":
      return { kind: "presence" };
    default:
      throw new CliError("BAD_INPUT", `${json.path}: not a string matcher`);
  }
}

/** An object, or `namespace/serviceAccount`. */
function accountMatch(json: Json): Match["serviceAccounts"][number] {
  if (typeof json.value === "string") {
    const [namespace = "", serviceAccount = ""] = json.value.split("/");
    return { namespace, serviceAccount };
  }
  return {
    namespace: json.at("namespace").text(),
    serviceAccount: json.at("serviceAccount").text(),
  };
}

function range(json: Json): Cidr {
  try {
    return parseCidr(json.text());
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    throw new CliError("BAD_INPUT", `${json.path}: ${error.message}`, [], error);
  }
}

function oneOf<T extends string>(json: Json, allowed: readonly T[]): T {
  const found = allowed.find((a) => a === json.value);
  if (found !== undefined) return found;
  throw new CliError("BAD_INPUT", `${json.path}: expected ${allowed.join(" or ")}`);
}
