// The words a user may write for a kind: plural, singular, kubectl's short names, with or without the group.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { didYouMean } from "../suggest.ts";

const SHORT: Readonly<Record<string, string>> = {
  ns: "namespaces",
  no: "nodes",
  po: "pods",
  svc: "services",
  sa: "serviceaccounts",
  cm: "configmaps",
  deploy: "deployments",
  ds: "daemonsets",
  sts: "statefulsets",
  se: "serviceentries",
  we: "workloadentries",
  ap: "authorizationpolicies",
  pa: "peerauthentications",
  gtw: "gateways",
  gc: "gatewayclasses",
};

const ALL: readonly Resource[] = Object.values(RESOURCES);

/** @throws {CliError} USAGE for a word that is no kind */
export function findResource(word: string): Resource {
  const [name, group] = splitGroup(word.toLowerCase());
  const plural = SHORT[name] ?? name;
  const found = ALL.find(
    (r) =>
      (r.plural === plural || r.kind.toLowerCase() === plural) &&
      (group === undefined || r.group === group),
  );
  if (found !== undefined) return found;
  throw new CliError("USAGE", `No such kind: ${JSON.stringify(word)}`, [
    ...didYouMean(
      name,
      ALL.flatMap((r) => [r.plural, r.kind.toLowerCase()]),
    ),
    `kinds: ${ALL.map((r) => r.plural).join(", ")}`,
  ]);
}

/** `kind.group/name`, as kubectl prints objects: `namespace/shop`, `authorizationpolicy.security.istio.io/deny`. */
export function displayName(resource: Resource, name: string): string {
  const kind = resource.kind.toLowerCase();
  return resource.group === "" ? `${kind}/${name}` : `${kind}.${resource.group}/${name}`;
}

export function displayObject(object: KubeObject, resource: Resource): string {
  return displayName(resource, object.metadata.name);
}

/** One object named on a command line. */
export interface Target {
  readonly resource: Resource;
  readonly name: string;
}

/** Reads `kind/name…` or `kind name…`. @throws {CliError} USAGE */
export function parseTargets(words: readonly string[]): readonly Target[] {
  return targetWords(words).map(({ kind, name }) => ({ resource: findResource(kind), name }));
}

/** The same, with the kinds as they were written. @throws {CliError} USAGE */
export function targetWords(
  words: readonly string[],
): readonly { readonly kind: string; readonly name: string }[] {
  const [first = "", ...rest] = words;
  if (words.every((w) => w.includes("/")) && words.length > 0)
    return words.map((w) => {
      const slash = w.indexOf("/");
      const name = w.slice(slash + 1);
      if (name === "") throw new CliError("USAGE", `No name in ${JSON.stringify(w)}`);
      return { kind: w.slice(0, slash), name };
    });
  return rest.map((name) => {
    if (name.includes("/"))
      throw new CliError("USAGE", `Both ${first} and ${JSON.stringify(name)} name a kind`, [
        `write ${first} ${name.slice(name.indexOf("/") + 1)}, or every target as kind/name`,
      ]);
    return { kind: first, name };
  });
}

/** `authorizationpolicies.security.istio.io` is a kind and its group. */
export function splitGroup(word: string): readonly [string, string | undefined] {
  const dot = word.indexOf(".");
  return dot < 0 ? [word, undefined] : [word.slice(0, dot), word.slice(dot + 1)];
}
