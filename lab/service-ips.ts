// Gives Services their cluster addresses, as the API server does on creation: pure.
import type { Service } from "#lib/kube/objects.ts";
import { hasV4, hasV6, serviceAddress, type IpFamilies } from "./address-plan.ts";
import { LabError } from "./errors.ts";

/** Host parts below are kept for fixed addresses such as the cluster DNS. */
const FIRST_HOST = 16;
const LAST_HOST = 0xfffe;

/**
 * The fields to merge into a Service that has no addresses yet; `null` when it needs none.
 * @throws {LabError} `CONFLICT` when all addresses are taken
 */
export function allocateServiceIps(
  service: Service,
  others: readonly Service[],
  families: IpFamilies,
): Pick<NonNullable<Service["spec"]>, "clusterIP" | "clusterIPs" | "ipFamilies"> | null {
  const { spec } = service;
  if (spec?.type === "ExternalName") return null;
  const given = spec?.ipFamilies as readonly ("IPv4" | "IPv6")[] | undefined;
  const ipFamilies = given ?? [
    ...(hasV4(families) ? (["IPv4"] as const) : []),
    ...(hasV6(families) ? (["IPv6"] as const) : []),
  ];
  if (spec?.clusterIP === "None")
    return given === undefined ? { clusterIP: "None", clusterIPs: ["None"], ipFamilies } : null;
  const fixed =
    spec?.clusterIPs ??
    (spec?.clusterIP === undefined || spec.clusterIP === "" ? [] : [spec.clusterIP]);
  if (fixed.length > 0) {
    if (given !== undefined && spec?.clusterIPs !== undefined) return null;
    const own = fixed.map((ip) => (ip.includes(":") ? "IPv6" : "IPv4"));
    return { clusterIP: fixed[0] ?? "", clusterIPs: fixed, ipFamilies: own };
  }
  const taken = new Set(others.flatMap((s) => s.spec?.clusterIPs ?? [s.spec?.clusterIP ?? ""]));
  for (let host = FIRST_HOST; host <= LAST_HOST; host++) {
    const clusterIPs = ipFamilies.map((family) => serviceAddress(host, family));
    if (clusterIPs.some((ip) => taken.has(ip))) continue;
    return { clusterIP: clusterIPs[0] ?? "", clusterIPs, ipFamilies };
  }
  throw new LabError("CONFLICT", `No service address is left for ${service.metadata.name}`);
}
