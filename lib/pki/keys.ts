// Private keys: made, read and matched with the signature algorithm they sign certificates with.
import { createPrivateKey, generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { nullValue, OID, oid, sequence, type Asn1 } from "./asn1.ts";
import { PkiError } from "./errors.ts";

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

export type Curve = "P-256" | "P-384" | "P-521";

export interface SignatureAlgorithm {
  readonly digest: "sha256" | "sha384" | "sha512";
  /** AlgorithmIdentifier. */
  readonly identifier: Asn1;
}

const generate = promisify(generateKeyPair);

export async function generateEcKey(curve: Curve = "P-256"): Promise<KeyPair> {
  return generate("ec", { namedCurve: curve });
}

export async function generateRsaKey(bits = 2048): Promise<KeyPair> {
  return generate("rsa", { modulusLength: bits });
}

/** PKCS#8, PKCS#1 or SEC 1 PEM. @throws {PkiError} `KEY_INVALID` for anything else, encrypted keys included */
export function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new PkiError("KEY_INVALID", "Cannot parse private key", { cause });
  }
}

const NAMED_CURVE: Readonly<Record<string, Curve>> = {
  prime256v1: "P-256",
  secp384r1: "P-384",
  secp521r1: "P-521",
};

/** The curve of an EC key; `null` for other keys and other curves. */
export function curveOf(key: KeyObject): Curve | null {
  if (key.asymmetricKeyType !== "ec") return null;
  return NAMED_CURVE[key.asymmetricKeyDetails?.namedCurve ?? ""] ?? null;
}

const ECDSA = {
  "P-256": ["sha256", OID.ecdsaSha256],
  "P-384": ["sha384", OID.ecdsaSha384],
  "P-521": ["sha512", OID.ecdsaSha512],
} as const;

/** @throws {PkiError} `KEY_INVALID` unless RSA or EC on a NIST curve */
export function signatureAlgorithm(key: KeyObject): SignatureAlgorithm {
  if (key.asymmetricKeyType === "rsa")
    return { digest: "sha256", identifier: sequence(oid(OID.sha256WithRsa), nullValue()) };
  const curve = curveOf(key);
  if (curve === null)
    throw new PkiError(
      "KEY_INVALID",
      `Cannot sign with a key of type ${key.asymmetricKeyType ?? "unknown"}, expected RSA or EC P-256, P-384, P-521`,
    );
  const [digest, id] = ECDSA[curve];
  return { digest, identifier: sequence(oid(id)) };
}
