// A plugged-in CA: the files of Secret `cacerts`, in Istio's layout or that of a kubernetes.io/tls Secret.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCaBundle, type CaBundle } from "./ca-bundle.ts";
import { parseCertificate, parseCertificates } from "./certificate.ts";
import { PkiError } from "./errors.ts";
import { parsePrivateKey } from "./keys.ts";
import { parseTrustBundle } from "./trust-bundle.ts";

interface Layout {
  readonly certificate: string;
  readonly key: string;
  readonly root: string;
  /** Files whose certificates may stand between the signer and the root. */
  readonly chain: readonly string[];
}

const ISTIO: Layout = {
  certificate: "ca-cert.pem",
  key: "ca-key.pem",
  root: "root-cert.pem",
  chain: ["cert-chain.pem"],
};
/** Used when `tls.crt` exists; `tls.crt` may carry its own intermediates. */
const KUBERNETES_TLS: Layout = {
  certificate: "tls.crt",
  key: "tls.key",
  root: "ca.crt",
  chain: ["tls.crt", "ca.crt"],
};

export interface PluggedInCa {
  readonly bundle: CaBundle;
  /** Things that work but deserve a word to the operator. */
  readonly warnings: readonly string[];
}

/** Files by name, wherever they are. */
export interface CaFiles {
  /** For messages: `directory /etc/cacerts`. */
  readonly name: string;
  /** For messages: one of the files, as a person would name it. */
  place(file: string): string;
  /** @returns `null` when there is no such file. */
  read(file: string): Promise<string | null>;
}

/** Reads and verifies the CA in `dir`, as `pluggedInCa`. */
export async function loadPluggedInCa(dir: string, nowMs: number): Promise<PluggedInCa | null> {
  return pluggedInCa(
    {
      name: `directory ${dir}`,
      place: (file) => join(dir, file),
      read: (file) => readText(dir, file),
    },
    nowMs,
  );
}

/**
 * Reads and verifies a CA.
 * @returns `null` when none of the files exists: the caller makes a self-signed CA
 * @throws {PkiError} `CA_FILES_INVALID` naming the file and what is wrong with it; half a set is an error
 */
export async function pluggedInCa(files: CaFiles, nowMs: number): Promise<PluggedInCa | null> {
  const isTlsLayout = (await files.read(KUBERNETES_TLS.certificate)) !== null;
  const layout = isTlsLayout ? KUBERNETES_TLS : ISTIO;
  const names = [...new Set([layout.certificate, layout.key, layout.root, ...layout.chain])];
  const texts = new Map<string, string>();
  const missing: string[] = [];
  for (const name of names) {
    const text = await files.read(name);
    if (text === null) missing.push(name);
    else texts.set(name, text);
  }
  // A lone root-cert.pem is not half a CA: it is appended to a self-signed CA's roots.
  if (missing.length === names.length || (texts.size === 1 && texts.has(ISTIO.root))) return null;
  if (missing.length > 0)
    throw new PkiError(
      "CA_FILES_INVALID",
      `CA ${files.name} has ${[...texts.keys()].join(", ")} but lacks ${missing.join(", ")}; provide all of them, or none for a self-signed CA`,
    );
  const text = (name: string): string => texts.get(name) ?? "";
  const part = <T>(name: string, parse: (text: string) => T): T =>
    inFile(files, name, () => parse(text(name)));

  const certificate = part(layout.certificate, parseCertificate);
  const key = part(layout.key, parsePrivateKey);
  const trust = part(layout.root, parseTrustBundle);
  const chain = layout.chain.flatMap((name) => part(name, parseCertificates));
  const bundle = inFile(files, layout.certificate, () =>
    makeCaBundle(certificate, key, chain, trust.roots, nowMs),
  );
  const warnings: string[] = [];
  if (trust.skipped > 0)
    warnings.push(`${layout.root}: skipped ${trust.skipped} unreadable blocks`);
  if (bundle.chain.length > 0 && !chain.some((c) => c.der.equals(certificate.der)))
    warnings.push(`${layout.chain.join(", ")}: the signing certificate is missing; added`);
  return { bundle, warnings };
}

/** Further roots in `root-cert.pem` of a CA directory that holds no CA; empty when absent. */
export async function loadExtraRoots(dir: string): Promise<string> {
  return (await readText(dir, ISTIO.root)) ?? "";
}

function inFile<T>(files: CaFiles, name: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new PkiError("CA_FILES_INVALID", `${files.place(name)}: ${detail}`, { cause });
  }
}

async function readText(dir: string, name: string): Promise<string | null> {
  try {
    return await readFile(join(dir, name), "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new PkiError("CA_FILES_INVALID", `Cannot read ${join(dir, name)}`, { cause: error });
  }
}
