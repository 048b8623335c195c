// Where a proxy finds its control plane, whom it trusts there and what it shows: read from the environment, under
// the names that Istio's ztunnel has for them.
import { Secret, type ConfigReader } from "../base/config-reader.ts";
import type { ControlPlaneEndpoint, TokenSource, TrustSource } from "./control-plane.ts";

type FileExists = (path: string) => boolean;

const ROOT_FILE = "./var/run/secrets/istio/root-cert.pem";
const TOKEN_FILE = "./var/run/secrets/tokens/istio-token";

/**
 * The control plane's address for `XDS` or `CA`, from the variables of that prefix.
 * @param rootFile  where the trust anchors are, or will be, unless `<prefix>_ROOT_CA` says otherwise
 */
export function readEndpoint(
  r: ConfigReader,
  prefix: "XDS" | "CA",
  exists: FileExists,
  fallback: string,
  rootFile = ROOT_FILE,
): ControlPlaneEndpoint {
  const name = `${prefix}_ADDRESS`;
  if (r.has(name) && r.text(name, null) === null)
    r.problem(`${name} is empty: the shared mode needs a control plane`);
  const given = r.text(name, fallback);
  const address = given.includes("://") ? given : `https://${given}`;
  const url = URL.parse(address);
  if (url === null || url.protocol !== "https:" || url.hostname === "" || url.pathname !== "/")
    r.problem(`${name}=${JSON.stringify(given)}: expected https://host:port`);
  return {
    address: address.replace(/\/$/, ""),
    root: readRoot(r.text(`${prefix}_ROOT_CA`, rootFile), exists, rootFile),
    altHostname: r.text(`ALT_${prefix}_HOSTNAME`, null),
    headers: new Map(
      [...r.withPrefix(`${prefix}_HEADER_`)].map(([key, v]) => [key.toLowerCase(), new Secret(v)]),
    ),
  };
}

/** An existing path, the word SYSTEM, or PEM text. The default path may appear later (a projected volume). */
function readRoot(value: string, exists: FileExists, rootFile: string): TrustSource {
  if (value === "SYSTEM") return { kind: "system", value: "" };
  if (value === rootFile || exists(value)) return { kind: "file", value };
  return value.includes("-----BEGIN") ? { kind: "pem", value } : { kind: "file", value };
}

/** AUTH_TOKEN: a path, or the token itself. */
export function readTokenSource(r: ConfigReader, exists: FileExists): TokenSource {
  const given = r.text("AUTH_TOKEN", null);
  if (given === null)
    return exists(TOKEN_FILE) ? { kind: "file", path: TOKEN_FILE } : { kind: "none" };
  // A path that does not exist yet is still a path: a token has no slash (RFC 7519 §3).
  if (exists(given) || given.includes("/")) return { kind: "file", path: given };
  return { kind: "literal", token: new Secret(given) };
}
