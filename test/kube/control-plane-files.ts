// What a control plane needs before anything runs: keys, certificates, tokens, policies, on disk.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { auditFlags, writeAuditPolicy } from "./audit.ts";
import { Authority } from "./authority.ts";
import type { ControlPlanePlan } from "./control-plane-programs.ts";
import type { TempDir } from "./temp-dir.ts";

export interface PreparedControlPlane {
  readonly plan: ControlPlanePlan;
  readonly authority: Authority;
  readonly token: string;
}

export interface PrepareOptions {
  /** `auditEvents()` then tells every request. */
  readonly auditLog?: boolean;
  /** As `controllerManager()` starts it, with these controllers when they are named. */
  readonly controllerManager?: boolean | readonly string[];
  /** One that nodes elsewhere reach; loopback otherwise. */
  readonly address?: string;
  readonly serviceCidrs?: readonly string[];
  /** Further flags of kube-apiserver; the last one of a name counts. */
  readonly flags?: readonly string[];
}

/** Writes below `dir`, which it borrows. */
export async function prepareControlPlane(
  dir: TempDir,
  options: PrepareOptions,
): Promise<PreparedControlPlane> {
  const address = options.address ?? "127.0.0.1";
  mkdirSync(dir.file("pki"));
  const authority = await Authority.create(dir.file("pki"));
  const serviceCidrs = options.serviceCidrs ?? ["10.96.0.0/16"];
  const [serverCert, kubeletClient] = await Promise.all([
    authority.server("kube-apiserver", [
      ...["127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default"],
      ...["kubernetes.default.svc", "kubernetes.default.svc.cluster.local"],
      ...serviceCidrs.map(firstAddress),
      ...(address === "127.0.0.1" ? [] : [address]),
    ]),
    authority.client("kube-apiserver-kubelet-client", ["system:masters"]),
  ]);
  const token = randomBytes(24).toString("base64url");
  writeFileSync(dir.file("tokens.csv"), `${token},admin,admin,system:masters\n`, { mode: 0o600 });
  const hasAccounts =
    options.controllerManager !== undefined && options.controllerManager !== false;
  if (options.auditLog === true) await writeAuditPolicy(dir.file("audit-policy.json"));
  return {
    authority,
    token,
    plan: {
      dir: dir.path,
      address,
      bindAddress: address === "127.0.0.1" ? address : address.includes(":") ? "::" : "0.0.0.0",
      serviceCidrs,
      serverCert,
      kubeletClient,
      caFile: authority.ca.cert,
      serviceAccountKey: writeServiceAccountKey(dir),
      tokenFile: dir.file("tokens.csv"),
      extraFlags: [
        // nobody makes the account that it wants each pod to have
        ...(hasAccounts ? [] : ["--disable-admission-plugins=ServiceAccount"]),
        ...(options.auditLog === true
          ? auditFlags(dir.file("audit-policy.json"), dir.file("audit.log"))
          : []),
        ...(options.flags ?? []),
      ],
    },
  };
}

function writeServiceAccountKey(dir: TempDir): { cert: string; key: string } {
  const files = { cert: dir.file("pki/sa.pub"), key: dir.file("pki/sa.key") };
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(files.cert, publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(files.key, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  return files;
}

/** Of the service range: `kubernetes.default`. */
const firstAddress = (cidr: string): string =>
  cidr.replace(/\/.*/, "").replace(/(^|[.:])0?$/, "$11");
