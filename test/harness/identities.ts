// Certificates for tests of TLS: a workload's own, and those a peer has to refuse.
import { sign } from "node:crypto";
import {
  bitString,
  boolean,
  fromDer,
  items,
  octetString,
  OID,
  oid,
  oidOf,
  sequence,
  tagged,
  toDer,
  type Asn1,
} from "#lib/pki/asn1.ts";
import type { CaBundle } from "#lib/pki/ca-bundle.ts";
import { parseCertificate, type Certificate } from "#lib/pki/certificate.ts";
import { issueLeaf } from "#lib/pki/issue.ts";
import { generateEcKey } from "#lib/pki/keys.ts";
import { sanOf } from "#lib/pki/san.ts";
import type { TlsMaterial } from "#lib/sys/tls.ts";

/** One identity, as our TLS takes it and as Node's and OpenSSL's do. */
export interface TestIdentity {
  readonly material: TlsMaterial;
  readonly certPem: string;
  readonly keyPem: string;
  readonly rootPem: string;
}

export interface IdentityOptions {
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
  /** What is wrong with the leaf: good for signing code only, or a CA itself. */
  readonly flaw?: "code-signing" | "ca";
}

const HOUR_MS = 3_600_000;

export async function testIdentity(
  ca: CaBundle,
  names: readonly string[],
  options: IdentityOptions = {},
): Promise<TestIdentity> {
  const keys = await generateEcKey();
  const nowMs = Date.now();
  const issued = await issueLeaf(ca.signer, {
    publicKey: keys.publicKey,
    sans: names.map(sanOf),
    notBeforeMs: options.notBeforeMs ?? nowMs - 60_000,
    notAfterMs: options.notAfterMs ?? nowMs + HOUR_MS,
  });
  const edit = { "code-signing": withCodeSigning, ca: withCaFlag };
  const leaf = options.flaw === undefined ? issued : signedAgain(issued, ca, edit[options.flaw]);
  return {
    material: {
      leaf: leaf.der,
      chain: ca.chain.map((issuer) => issuer.der),
      privateKey: keys.privateKey.export({ type: "pkcs8", format: "der" }),
      roots: ca.roots.map((root) => root.der),
    },
    certPem: leaf.pem + ca.chain.map((issuer) => issuer.pem).join(""),
    keyPem: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    rootPem: ca.rootPem,
  };
}

/** id-kp (1.3.6.1.5.5.7.3) without its last arc: 1 server, 2 client, 3 code signing. */
const ID_KP = Buffer.from("2b060105050703", "hex");

function withCodeSigning(tbs: Asn1): Asn1 {
  const der = Buffer.from(toDer(tbs));
  for (let at = der.indexOf(ID_KP); at >= 0; at = der.indexOf(ID_KP, at + 1))
    der[at + ID_KP.length] = 3;
  return fromDer(der);
}

function withCaFlag(tbs: Asn1): Asn1 {
  const fields = items(tbs);
  const extensions = items(items(fields.at(-1))[0]).map((extension) =>
    oidOf(items(extension)[0]) === OID.basicConstraints
      ? sequence(
          oid(OID.basicConstraints),
          boolean(true),
          octetString(toDer(sequence(boolean(true)))),
        )
      : extension,
  );
  return sequence(...fields.slice(0, -1), tagged(3, sequence(...extensions)));
}

/** The same leaf, its body changed, signed again. */
function signedAgain(leaf: Certificate, ca: CaBundle, edit: (tbs: Asn1) => Asn1): Certificate {
  const [tbs, algorithm] = items(fromDer(leaf.der)) as [Asn1, Asn1];
  const edited = edit(tbs);
  const signature = sign("sha256", toDer(edited), ca.signer.key);
  return parseCertificate(toDer(sequence(edited, algorithm, bitString(signature))));
}
