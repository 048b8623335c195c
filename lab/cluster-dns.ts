// The lab's cluster DNS: answers names of Services from the manifest directory, at the service address
// every pod's resolv.conf names. It knows nothing else: the lab has no outside.
import { createSocket, type Socket } from "node:dgram";
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type EndpointSlice, type Service } from "#lib/kube/objects.ts";
import { parseIp } from "#lib/net/ip.ts";
import { bindUdp } from "#lib/sys/socket.ts";
import { encodeFormatError, encodeResponse, type DnsAnswer } from "#lib/wire/dns-response.ts";
import {
  CLASS_IN,
  parseQuery,
  RCODE,
  RECORD_TYPE,
  udpLimit,
  type DnsQuery,
} from "#lib/wire/dns.ts";
import {
  CONTROL_HOST,
  DNS_SERVICE_HOST,
  linkAddresses,
  serviceAddress,
  serviceFamilies,
  type IpFamilies,
} from "./address-plan.ts";
import type { Netns } from "./netns.ts";

const PORT = 53;
const TTL_SECONDS = 5;
const SUFFIX = ".svc.cluster.local";

/** The Service pods know, with hand-made endpoints: the server lives outside the nodes. */
export function clusterDnsObjects(families: IpFamilies): {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
} {
  const addresses = linkAddresses(CONTROL_HOST, families);
  const ipFamilies = serviceFamilies(families);
  const clusterIPs = ipFamilies.map((f) => serviceAddress(DNS_SERVICE_HOST, f));
  const ports = [{ name: "dns", port: PORT, protocol: "UDP" }];
  const metadata = { name: "kube-dns", namespace: "kube-system" };
  const labels = { "kubernetes.io/service-name": metadata.name };
  return {
    service: {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: { clusterIP: clusterIPs[0] ?? "", clusterIPs, ipFamilies, ports },
    },
    slices: ipFamilies.map((family, index) => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { ...metadata, name: `kube-dns-${family.toLowerCase()}`, labels },
      addressType: family,
      ports,
      endpoints: [{ addresses: [addresses[index] ?? ""], conditions: { ready: true } }],
    })),
  };
}

/** Owns its socket; borrows the namespace and the cluster. */
export class ClusterDns implements Disposable {
  readonly #sockets: Socket[] = [];
  readonly #cluster: Cluster;

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static async start(
    netns: Netns,
    cluster: Cluster,
    addresses: readonly string[],
  ): Promise<ClusterDns> {
    const dns = new ClusterDns(cluster);
    for (const address of addresses) {
      const v6 = address.includes(":");
      const socket = createSocket(v6 ? "udp6" : "udp4");
      dns.#sockets.push(socket);
      socket.on("error", () => {}); // a client that went away
      socket.on("message", (message, from) => {
        void dns.#answer(message).then(
          (reply) => {
            if (reply !== null) socket.send(reply, from.port, from.address);
          },
          () => {},
        ); // unanswered: the client asks again
      });
      const fd = bindUdp({ ip: parseIp(address), port: PORT, netns: netns.fd });
      await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
    }
    return dns;
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  async #answer(message: Uint8Array): Promise<Uint8Array | null> {
    const query = parseQuery(message);
    if (query.kind === "format-error") return encodeFormatError(query);
    const ips = query.class === CLASS_IN ? await this.#resolve(query) : null;
    const rcode = ips === null ? RCODE.NXDOMAIN : RCODE.NOERROR;
    const answers = (ips ?? [])
      .filter((ip) => query.type === (ip.includes(":") ? RECORD_TYPE.AAAA : RECORD_TYPE.A))
      .map(
        (ip): DnsAnswer => ({
          kind: "address",
          name: query.name,
          ip: parseIp(ip),
          ttlSeconds: TTL_SECONDS,
        }),
      );
    return encodeResponse(query, { rcode, authoritative: true, answers }, udpLimit(query));
  }

  /** `<service>.<namespace>`, or `<hostname>.<service>.<namespace>` of a headless one; `null` for no such name. */
  async #resolve(query: DnsQuery): Promise<readonly string[] | null> {
    if (!query.name.endsWith(SUFFIX)) return null;
    const labels = query.name.slice(0, -SUFFIX.length).split(".");
    const [namespace = "", name = ""] = labels.toReversed();
    const host = labels.length === 3 ? labels[0] : undefined;
    if (labels.length < 2 || labels.length > 3) return null;
    const service = await this.#cluster.get(RESOURCES.services, namespace, name);
    if (service === null) return null;
    const { clusterIP, clusterIPs } = service.spec ?? {};
    if (clusterIP !== "None")
      return host === undefined
        ? (clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP]))
        : null;
    const slices = await this.#cluster.list(RESOURCES.endpointSlices, {
      namespace,
      labelSelector: `kubernetes.io/service-name=${name}`,
    });
    const endpoints = slices
      .flatMap((s) => s.endpoints ?? [])
      .filter((e) => e.conditions?.ready !== false && (host === undefined || e.hostname === host));
    return host !== undefined && endpoints.length === 0
      ? null
      : endpoints.flatMap((e) => e.addresses);
  }
}
