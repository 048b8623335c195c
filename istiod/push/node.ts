// The node a client says it is: type, addresses and metadata, as istiod requires them of any proxy.
import { tryParseIp, type Ip } from "#lib/net/ip.ts";
import type { Node } from "#lib/wire/gen/discovery.gen.ts";

const NODE_TYPES = ["sidecar", "router", "waypoint", "ztunnel", "agentgateway"] as const;
export type NodeType = (typeof NODE_TYPES)[number];

export interface ProxyNode {
  readonly id: string;
  readonly type: NodeType;
  readonly ips: readonly Ip[];
  /** Namespace its token must have; empty when the node names none. */
  readonly namespace: string;
  /** Service account its token must have; `null` when the node names none. */
  readonly serviceAccount: string | null;
  readonly nodeName: string;
}

export type ParsedNode =
  | { readonly ok: true; readonly node: ProxyNode }
  | { readonly ok: false; readonly why: string };

const MAX_ID_LENGTH = 2048;

/** `<type>~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>`; metadata values are strings. */
export function parseNode(node: Node | undefined): ParsedNode {
  if (node === undefined || node.id === "") return refuse("missing node information");
  if (node.id.length > MAX_ID_LENGTH) return refuse("node id is too long");
  const parts = node.id.split("~");
  const [typeText = "", ipText = "", , domain = ""] = parts;
  if (parts.length !== 4) return refuse(`node id ${JSON.stringify(node.id)} has not four parts`);
  const type = NODE_TYPES.find((known) => known === typeText);
  if (type === undefined) return refuse(`unknown node type ${JSON.stringify(typeText)}`);
  const metadata = (key: string): string => {
    const value: unknown = node.metadata?.[key];
    return typeof value === "string" ? value : "";
  };
  const ips = (metadata("INSTANCE_IPS") || ipText)
    .split(",")
    .map((text) => tryParseIp(text.trim()))
    .filter((ip) => ip !== null);
  if (ips.length === 0) return refuse("no valid IP address in node id or metadata");
  return {
    ok: true,
    node: {
      id: node.id,
      type,
      ips,
      namespace: metadata("NAMESPACE") || (domain.split(".")[0] ?? ""),
      serviceAccount: metadata("SERVICE_ACCOUNT") || null,
      nodeName: metadata("NODE_NAME"),
    },
  };
}

/** Istio's rule for proxies: the token must be of the namespace, and of the account, that the node claims. */
export function mayActAs(
  caller: { readonly namespace: string; readonly serviceAccount: string },
  node: ProxyNode,
): boolean {
  if (node.namespace !== "" && node.namespace !== caller.namespace) return false;
  return node.serviceAccount === null || node.serviceAccount === caller.serviceAccount;
}

function refuse(why: string): ParsedNode {
  return { ok: false, why };
}
