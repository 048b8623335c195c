// Subject alternative names: the names a certificate is good for.
import { isIP } from "node:net";
import { ipToBytes, parseIp, tryParseIp } from "../net/ip.ts";
import {
  OID,
  octetString,
  oid,
  sequence,
  boolean,
  taggedPrimitive,
  toDer,
  type Asn1,
} from "./asn1.ts";

export type San =
  | { readonly kind: "uri"; readonly value: string }
  | { readonly kind: "dns"; readonly value: string }
  | { readonly kind: "ip"; readonly value: string };

/** `scheme://…` is a URI, address text an IP, everything else a DNS name. */
export function sanOf(text: string): San {
  if (text.startsWith("spiffe://")) return { kind: "uri", value: text };
  return { kind: isIP(text) === 0 ? "dns" : "ip", value: text };
}

/** The extension, critical: every subject of ours is empty (RFC 5280 §4.2.1.6). */
export function sanExtension(names: readonly San[]): Asn1 {
  return sequence(
    oid(OID.subjectAltName),
    boolean(true),
    octetString(toDer(sequence(...names.map(generalName)))),
  );
}

function generalName(san: San): Asn1 {
  switch (san.kind) {
    case "dns":
      return taggedPrimitive(2, Buffer.from(san.value, "ascii"));
    case "uri":
      return taggedPrimitive(6, Buffer.from(san.value, "ascii"));
    case "ip":
      return taggedPrimitive(7, ipToBytes(parseIp(san.value)));
    default:
      return san satisfies never;
  }
}

/**
 * Reads Node's `X509Certificate.subjectAltName`: `URI:spiffe://a, DNS:b`, where a value that could be
 * taken for more than one is a quoted JSON string (so that a comma inside a name forges nothing).
 */
export function parseSanText(text: string | undefined): San[] {
  const sans: San[] = [];
  for (const [, type, quoted, plain] of (text ?? "").matchAll(
    /(?:^|, )([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^,]*))(?=, |$)/g,
  )) {
    const value = quoted === undefined ? (plain ?? "") : String(JSON.parse(quoted));
    if (type === "URI") sans.push({ kind: "uri", value });
    else if (type === "DNS") sans.push({ kind: "dns", value });
    else if (type === "IP Address") sans.push({ kind: "ip", value: tryParseIp(value) ?? value });
  }
  return sans;
}
