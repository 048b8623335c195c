// The Services a Gateway is reached by: the one made for it, or those its addresses name.
import type { Gateway } from "#lib/kube/objects.ts";
import { isDeployed } from "./classes.ts";
import { baseName } from "./names.ts";

export interface BackingService {
  readonly hostname: string;
  /** `namespace/name`; `null` for a host that is no Service of this cluster. */
  readonly key: string | null;
}

/** None for a Gateway whose name is no name of a Service, or whose addresses are all of other types. */
export function backingServices(gateway: Gateway, domain: string): readonly BackingService[] {
  const { namespace = "" } = gateway.metadata;
  if (isDeployed(gateway)) {
    const base = baseName(gateway);
    return base === null ? [] : [inCluster(namespace, base, domain)];
  }
  return (gateway.spec?.addresses ?? [])
    .filter((a) => a.type === "Hostname" && a.value !== undefined && a.value !== "")
    .map(({ value = "" }) => {
      if (!value.includes(".")) return inCluster(namespace, value, domain);
      const suffix = `.svc.${domain}`;
      const [name = "", home = "", ...rest] = value.slice(0, -suffix.length).split(".");
      const isService = value.endsWith(suffix) && home !== "" && rest.length === 0;
      return isService ? inCluster(home, name, domain) : { hostname: value, key: null };
    });
}

function inCluster(namespace: string, name: string, domain: string): BackingService {
  return { hostname: `${name}.${namespace}.svc.${domain}`, key: `${namespace}/${name}` };
}
