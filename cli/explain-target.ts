// The two ends of `explain connection` as a user writes them, found in the tables.
import { isIpv6, tryParseIp, tryParseSocketAddr, type Ip, type SocketAddr } from "#lib/net/ip.ts";
import type { Service } from "#lib/model/service.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Workload } from "#lib/model/workload.ts";
import { CliError } from "./errors.ts";
import { didYouMean } from "./suggest.ts";

/** `pod/x[.ns]`, `x[.ns]`, `ns/x` as `kubectl`-less users write it, or an address of a workload. */
export function findSource(
  tables: MeshTables,
  text: string,
  namespace: string | undefined,
): Workload {
  const ip = tryParseIp(text);
  if (ip !== null) {
    const found = [...tables.workloads()].find((w) => w.addresses.includes(ip));
    if (found !== undefined) return found;
    throw new CliError("NOT_FOUND", `No workload has the address ${text}`, [LIST_WORKLOADS]);
  }
  const { kind, name, namespace: own } = splitTarget(text);
  if (kind !== null && !POD_KINDS.has(kind))
    throw new CliError("USAGE", `A connection starts at a pod, not at ${JSON.stringify(text)}`, [
      "write pod/<name>, pod/<name>.<namespace> or an IP address",
    ]);
  return findWorkload(tables, name, own ?? namespace);
}

/**
 * `svc/x[.ns][:port]`, `pod/x[.ns]:port`, `ip:port`, or a host name with a port. A service with one port needs none.
 * Names without a namespace are looked for in `namespace`, then in the source's.
 */
export function findDestination(
  tables: MeshTables,
  text: string,
  source: Workload,
  namespace: string | undefined,
): SocketAddr {
  const addr = tryParseSocketAddr(text);
  if (addr !== null) return addr;
  const m = /^(.*?)(?::(\d{1,5}))?$/.exec(text);
  const target = m?.[1] ?? text;
  const port = m?.[2] === undefined ? null : Number(m[2]);
  if (port !== null && (port < 1 || port > 65_535))
    throw new CliError("USAGE", `Not a port: ${port}`, ["ports are 1 to 65535"]);
  if (tryParseIp(target) !== null)
    throw new CliError("USAGE", `Which port of ${target}?`, [PORT_HINT]);
  const { kind, name, namespace: own } = splitTarget(target);
  const home = own ?? namespace ?? source.namespace;
  if (kind !== null && SERVICE_KINDS.has(kind))
    return atService(requireService(tables, name, home), port, source);
  if (kind !== null && POD_KINDS.has(kind)) return atPod(findWorkload(tables, name, home), port);
  if (kind !== null)
    throw new CliError(
      "USAGE",
      `A connection ends at a service, pod or address, not ${JSON.stringify(text)}`,
      ["write svc/<name>:<port>, pod/<name>:<port> or <ip>:<port>"],
    );
  const byHost = [...tables.services()].find((s) => s.hostname === target);
  const service = byHost ?? findService(tables, name, home);
  if (service !== undefined) return atService(service, port, source);
  return atPod(findWorkload(tables, name, home, "service or workload", serviceNames(tables)), port);
}

const POD_KINDS = new Set(["pod", "pods", "po"]);
const SERVICE_KINDS = new Set(["svc", "service", "services"]);
const LIST_WORKLOADS = "ambit ztunnel-config workload lists them";
const PORT_HINT = "add it: svc/cart:8080, pod/cart:8080, 10.96.0.10:80";

function splitTarget(text: string): {
  readonly kind: string | null;
  readonly name: string;
  readonly namespace: string | undefined;
} {
  const slash = text.indexOf("/");
  const rest = text.slice(slash + 1);
  const [name = "", namespace] = rest.split(".");
  return { kind: slash < 0 ? null : text.slice(0, slash), name, namespace };
}

function findWorkload(
  tables: MeshTables,
  name: string,
  namespace: string | undefined,
  what = "workload",
  otherNames: readonly string[] = [],
): Workload {
  const all = [...tables.workloads()];
  const found = all.filter(
    (w) => w.name === name && (namespace === undefined || w.namespace === namespace),
  );
  const [first, second] = found;
  if (first !== undefined && second === undefined) return first;
  if (first !== undefined)
    throw new CliError("USAGE", `There are several workloads ${name}`, [
      `write one of ${found.map((w) => `pod/${w.name}.${w.namespace}`).join(", ")}`,
    ]);
  const where = namespace === undefined ? "" : ` in namespace ${namespace}`;
  const elsewhere = all.find((w) => w.name === name);
  throw new CliError("NOT_FOUND", `No ${what} ${JSON.stringify(name)}${where}`, [
    ...(elsewhere === undefined
      ? []
      : [`there is one in namespace ${elsewhere.namespace}: ${name}.${elsewhere.namespace}`]),
    ...didYouMean(name, [...all.map((w) => w.name), ...otherNames]),
    LIST_WORKLOADS,
  ]);
}

function findService(tables: MeshTables, name: string, namespace: string): Service | undefined {
  return [...tables.services()].find((s) => s.name === name && s.namespace === namespace);
}

function requireService(tables: MeshTables, name: string, namespace: string): Service {
  const found = findService(tables, name, namespace);
  if (found !== undefined) return found;
  throw new CliError("NOT_FOUND", `No service ${JSON.stringify(name)} in namespace ${namespace}`, [
    ...didYouMean(name, serviceNames(tables)),
    "ambit ztunnel-config service lists them",
  ]);
}

function serviceNames(tables: MeshTables): string[] {
  return [...tables.services()].map((s) => s.name);
}

/** What a client of `source`'s family would dial: a VIP, or an endpoint's address for a headless service. */
function atService(service: Service, port: number | null, source: Workload): SocketAddr {
  const chosen = port ?? onlyPort(service);
  const wantsV6 = source.addresses.length > 0 && source.addresses.every(isIpv6);
  const ips = service.vips.map((v) => v.ip);
  const ip = preferred(ips, wantsV6);
  if (ip === undefined)
    throw new CliError(
      "USAGE",
      `Service ${service.namespace}/${service.name} has no address of its own`,
      ["it is headless: name one of its pods instead, pod/<name>:<port>"],
    );
  return { ip, port: chosen };
}

function onlyPort(service: Service): number {
  const [first, second] = [...service.ports.keys()];
  if (first !== undefined && second === undefined) return first;
  throw new CliError("USAGE", `Which port of service ${service.namespace}/${service.name}?`, [
    `it has ${[...service.ports.keys()].join(", ") || "none"}: svc/${service.name}:<port>`,
  ]);
}

function atPod(workload: Workload, port: number | null): SocketAddr {
  if (port === null)
    throw new CliError("USAGE", `Which port of ${workload.namespace}/${workload.name}?`, [
      PORT_HINT,
    ]);
  const ip = preferred(workload.addresses, false);
  if (ip === undefined)
    throw new CliError("NOT_FOUND", `Workload ${workload.uid} has no address`, [LIST_WORKLOADS]);
  return { ip, port };
}

function preferred(ips: readonly Ip[], wantsV6: boolean): Ip | undefined {
  return ips.find((ip) => isIpv6(ip) === wantsV6) ?? ips[0];
}
