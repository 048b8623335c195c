// Certificate signing requests (PKCS #10, RFC 2986): made by proxies, checked by the CA.
import { createPublicKey, sign, verify, type KeyObject } from "node:crypto";
import type { SpiffeId } from "../net/spiffe.ts";
import {
  bitString,
  content,
  fromDer,
  hasTag,
  isBitString,
  isSequence,
  items,
  OID,
  oid,
  oidOf,
  sequence,
  set,
  smallInteger,
  tagged,
  toDer,
  utf8String,
  type Asn1,
} from "./asn1.ts";
import { PkiError } from "./errors.ts";
import { generateEcKey, signatureAlgorithm, type KeyPair } from "./keys.ts";
import { formatPem, parsePem } from "./pem.ts";
import { sanExtension } from "./san.ts";

/** Real requests are below 2 KiB; parsing is bounded well above that. */
const MAX_CSR_BYTES = 64 * 1024;

export interface CreatedCsr {
  readonly csrPem: string;
  /** PKCS #8. */
  readonly privateKeyDer: Buffer;
  readonly privateKeyPem: string;
}

/** A new ECDSA P-256 key and a request for `identity`: empty subject, one critical URI name. */
export async function createCsr(identity: SpiffeId): Promise<CreatedCsr> {
  const keys = await generateEcKey("P-256");
  return {
    csrPem: formatPem("CERTIFICATE REQUEST", encodeCsr(keys, identity)),
    privateKeyDer: keys.privateKey.export({ type: "pkcs8", format: "der" }),
    privateKeyPem: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

/** A request signed with `keys`. `commonName` exists for agents that still send one. */
export function encodeCsr(keys: KeyPair, identity: SpiffeId, commonName?: string): Buffer {
  const algorithm = signatureAlgorithm(keys.privateKey);
  const info = sequence(
    smallInteger(0),
    commonName === undefined ? sequence() : subjectWithCommonName(commonName),
    fromDer(keys.publicKey.export({ type: "spki", format: "der" })),
    tagged(
      0,
      sequence(
        oid(OID.extensionRequest),
        set(sequence(sanExtension([{ kind: "uri", value: identity }]))),
      ),
    ),
  );
  const signature = sign(algorithm.digest, toDer(info), keys.privateKey);
  return toDer(sequence(info, algorithm.identifier, bitString(signature)));
}

export interface Csr {
  readonly publicKey: KeyObject;
  /** The CA takes no name from a request, but repeats its first SAN as CN when the request had one. */
  readonly hasCommonName: boolean;
}

const DIGEST_OF: Readonly<Record<string, string>> = {
  [OID.sha256WithRsa]: "sha256",
  "1.2.840.113549.1.1.12": "sha384",
  "1.2.840.113549.1.1.13": "sha512",
  [OID.ecdsaSha256]: "sha256",
  [OID.ecdsaSha384]: "sha384",
  [OID.ecdsaSha512]: "sha512",
};

/**
 * Parses a PEM request and checks that it is signed with its own key, so that nobody has a key
 * certified that he does not hold.
 * @throws {PkiError} `CSR_INVALID`
 */
export function parseCsr(pem: string): Csr {
  if (pem.length > MAX_CSR_BYTES)
    throw new PkiError("CSR_INVALID", `Request of ${pem.length} bytes exceeds ${MAX_CSR_BYTES}`);
  const block = readPem(pem);
  const { info, signatureOid, signature } = readRequest(block);
  const [, subject, spki] = items(info);
  if (!isSequence(subject) || !isSequence(spki))
    throw new PkiError("CSR_INVALID", "Request has no subject or no public key");
  const digest = DIGEST_OF[signatureOid ?? ""];
  if (digest === undefined)
    throw new PkiError("CSR_INVALID", `Unsupported signature algorithm ${signatureOid}`);
  let publicKey: KeyObject;
  let isValid: boolean;
  try {
    publicKey = createPublicKey({ key: toDer(spki), format: "der", type: "spki" });
    isValid = verify(digest, toDer(info), publicKey, signature);
  } catch (cause) {
    throw new PkiError("CSR_INVALID", "Request holds no usable public key", { cause });
  }
  if (!isValid) throw new PkiError("CSR_INVALID", "Request is not signed with its own key");
  checkKeyStrength(publicKey);
  return { publicKey, hasCommonName: hasCommonName(subject) };
}

function readPem(pem: string): Buffer {
  let blocks;
  try {
    blocks = parsePem(pem);
  } catch (cause) {
    throw new PkiError("CSR_INVALID", "Request is malformed PEM", { cause });
  }
  const first = blocks[0];
  if (first === undefined || !/^(NEW )?CERTIFICATE REQUEST$/.test(first.label))
    throw new PkiError("CSR_INVALID", "Expected one PEM block CERTIFICATE REQUEST");
  return first.der;
}

interface RequestParts {
  readonly info: Asn1;
  readonly signatureOid: string | null;
  readonly signature: Buffer;
}

function readRequest(der: Buffer): RequestParts {
  let request: Asn1;
  try {
    request = fromDer(der);
  } catch (cause) {
    throw new PkiError("CSR_INVALID", "Request is not DER", { cause });
  }
  const [info, algorithm, bits, extra] = isSequence(request) ? items(request) : [];
  const raw = content(bits);
  if (
    !isSequence(info) ||
    !isSequence(algorithm) ||
    !isBitString(bits) ||
    raw?.[0] !== 0 ||
    extra !== undefined
  )
    throw new PkiError("CSR_INVALID", "Request does not have the three parts of PKCS #10");
  const attributes = items(info)[3];
  if (attributes !== undefined && !hasTag(attributes, 0))
    throw new PkiError("CSR_INVALID", "Request has something else where attributes belong");
  return { info, signatureOid: oidOf(items(algorithm)[0]), signature: raw.subarray(1) };
}

/** What a modern peer would refuse in a handshake is refused here already. */
function checkKeyStrength(key: KeyObject): void {
  const bits = key.asymmetricKeyDetails?.modulusLength;
  if (key.asymmetricKeyType === "rsa" && (bits === undefined || bits < 2048 || bits > 8192))
    throw new PkiError("CSR_INVALID", `RSA key of ${bits} bits, expected 2048 to 8192`);
}

function subjectWithCommonName(commonName: string): Asn1 {
  return sequence(set(sequence(oid(OID.commonName), utf8String(commonName))));
}

function hasCommonName(subject: Asn1): boolean {
  return items(subject).some((rdn) =>
    items(rdn).some((attribute) => oidOf(items(attribute)[0]) === OID.commonName),
  );
}
