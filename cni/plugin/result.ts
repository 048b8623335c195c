// Results: what the chain made so far is printed back as it came, and its addresses are read for the
// agent. Formats: 0.1/0.2 name `ip4` and `ip6`; later ones have a list `ips`.
import type { PluginConfig } from "./config.ts";
import { CNI_CODE, CniError } from "./errors.ts";
import { formatOf } from "./version.ts";

/** An address as the agent's event carries it: Go's net.IPNet, the mask as raw bytes in base64. */
export interface EventIp {
  readonly Interface: number | null;
  readonly Address: { readonly IP: string; readonly Mask: string };
  readonly Gateway: string;
}

/** Standard output of a successful ADD. */
export function addResult(config: PluginConfig): string {
  const { cniVersion, prevResult } = config;
  return `${JSON.stringify({ ...prevResult, cniVersion })}\n`;
}

/** @throws {CniError} 6 for an address that is none */
export function resultIps(config: PluginConfig): readonly EventIp[] | null {
  const result = config.prevResult;
  if (result === null) return null;
  if (formatOf(config.cniVersion) === "0.2")
    return ["ip4", "ip6"].flatMap((key) => {
      const entry = result[key] as { ip?: unknown; gateway?: unknown } | null | undefined;
      return entry ? [eventIp(entry.ip, entry.gateway, null)] : [];
    });
  const ips = result["ips"];
  if (ips === undefined || ips === null) return null;
  if (!Array.isArray(ips)) throw new CniError(CNI_CODE.decoding, "prevResult.ips is not a list");
  return ips.map((value: unknown) => {
    const entry = (value ?? {}) as { address?: unknown; gateway?: unknown; interface?: unknown };
    const index = typeof entry.interface === "number" ? entry.interface : null;
    return eventIp(entry.address, entry.gateway, index);
  });
}

function eventIp(cidr: unknown, gateway: unknown, index: number | null): EventIp {
  const [, ip = "", length = ""] = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(String(cidr)) ?? [];
  const bytes = ip.includes(":") ? 16 : 4;
  if (ip === "" || Number(length) > bytes * 8)
    throw new CniError(CNI_CODE.decoding, `prevResult holds no address: ${JSON.stringify(cidr)}`);
  return {
    Interface: index,
    Address: { IP: ip, Mask: prefixMask(Number(length), bytes).toString("base64") },
    Gateway: typeof gateway === "string" ? gateway : "",
  };
}

function prefixMask(bits: number, bytes: number): Buffer {
  const mask = Buffer.alloc(bytes);
  for (let i = 0; i < bytes; i++)
    mask[i] = (0xff << (8 - Math.min(8, Math.max(0, bits - i * 8)))) & 0xff;
  return mask;
}
