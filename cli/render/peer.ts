// Names for the ends of a connection, and the filters that pick by them.
import type { PeerView } from "#lib/model/tunnel.ts";
import { CliError } from "../errors.ts";

/** `shop/cart-6d-abcde`, or the address of what the mesh does not know. */
export function peerName(peer: PeerView): string {
  const name = peer.pod ?? peer.workload;
  if (name === undefined) return peer.address === "" ? "-" : peer.address;
  return peer.namespace === undefined ? name : `${peer.namespace}/${name}`;
}

/** `shop/cart-6d-abcde:8080`; the service when the pod is not known (yet). */
export function targetName(peer: PeerView): string {
  const { port } = splitAddress(peer.address);
  const suffix = port === "" ? "" : `:${port}`;
  if (peer.pod === undefined && peer.workload === undefined && peer.service !== undefined)
    return `svc/${peer.service.split(".")[0]}${suffix}`;
  const name = peerName(peer);
  return name === peer.address ? name : `${name}${suffix}`;
}

export function splitAddress(address: string): { readonly ip: string; readonly port: string } {
  const m = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(address);
  return m === null ? { ip: address, port: "" } : { ip: m[1] ?? m[2] ?? "", port: m[3] ?? "" };
}

/**
 * Reads `--from`/`--to`: `ns/x` (a namespace), `pod/x`, `svc/x`, each with `.namespace` allowed, an IP address,
 * or a bare name of a pod, workload or service.
 * @throws {CliError} USAGE for an unknown kind
 */
export function parsePeerFilter(text: string): (peer: PeerView) => boolean {
  const slash = text.indexOf("/");
  const kind = slash < 0 ? "" : text.slice(0, slash);
  const rest = text.slice(slash + 1);
  const { name, namespace } = splitName(rest);
  const inNamespace = (p: PeerView): boolean =>
    namespace === undefined || p.namespace === namespace;
  const isPod = (p: PeerView): boolean => (p.pod === name || p.workload === name) && inNamespace(p);
  const isService = (p: PeerView): boolean => {
    const [service, serviceNamespace] = (p.service ?? "").split(".");
    return service === name && (namespace === undefined || serviceNamespace === namespace);
  };
  switch (kind) {
    case "ns":
    case "namespace":
      return (p) => p.namespace === rest;
    case "pod":
    case "po":
    case "deploy":
    case "deployment":
      return isPod;
    case "svc":
    case "service":
      return isService;
    case "":
      return (p) => isPod(p) || isService(p) || splitAddress(p.address).ip === text;
    default:
      throw new CliError(
        "USAGE",
        `Cannot select by ${JSON.stringify(kind)} in ${JSON.stringify(text)}`,
        ["write ns/x, pod/x, svc/x, an IP address, or a name"],
      );
  }
}

/** `*` stands for any run of characters. */
export function parseGlob(glob: string): (text: string) => boolean {
  const source = glob.split("*").map((part) => part.replace(/[\\^$.+?()[\]{}|]/g, "\\$&"));
  const pattern = new RegExp(`^${source.join(".*")}$`);
  return (text) => pattern.test(text);
}

function splitName(text: string): {
  readonly name: string;
  readonly namespace: string | undefined;
} {
  if (/^[\d.]+$/.test(text)) return { name: text, namespace: undefined };
  const dot = text.indexOf(".");
  return dot < 0
    ? { name: text, namespace: undefined }
    : { name: text.slice(0, dot), namespace: text.slice(dot + 1) };
}
