// The `certificates` list of /config_dump, in the shape `istioctl ztunnel-config certificates` reads.
import { parseCertificate } from "./certificate.ts";
import type { CertificateView } from "./certificate-entry.ts";

export interface CertificateDump {
  /** base64 of the PEM text. */
  readonly pem: string;
  /** Decimal. */
  readonly serialNumber: string;
  /** RFC 3339 in whole seconds. */
  readonly validFrom: string;
  readonly expirationTime: string;
}

export interface IdentityDump {
  readonly identity: string;
  readonly state: string;
  readonly certChain: readonly CertificateDump[];
  readonly rootCerts: readonly CertificateDump[];
}

export function dumpCertificates(views: readonly CertificateView[]): IdentityDump[] {
  return views.map((view) => ({
    certChain: view.material === null ? [] : [view.material.leaf, ...view.material.chain].map(dump),
    identity: view.identity,
    rootCerts: view.material?.roots.map(dump) ?? [],
    state: stateOf(view),
  }));
}

function stateOf(view: CertificateView): string {
  switch (view.state) {
    case "initializing":
      return "Initializing";
    case "available":
      return "Available";
    case "unavailable":
      return `Unavailable: ${view.error ?? "no certificate"}`;
    default:
      return view.state satisfies never;
  }
}

function dump(der: Uint8Array): CertificateDump {
  const certificate = parseCertificate(der);
  return {
    pem: Buffer.from(certificate.pem).toString("base64"),
    serialNumber: BigInt(`0x${certificate.serial}`).toString(),
    validFrom: seconds(certificate.notBeforeMs),
    expirationTime: seconds(certificate.notAfterMs),
  };
}

function seconds(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}
