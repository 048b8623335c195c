// The ground a lab is built on: its directory, cluster, link, the control machine, names and routes.
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import {
  CONTROL_HOST,
  DNS_SERVICE_HOST,
  linkAddresses,
  serviceAddress,
  serviceFamilies,
  type IpFamilies,
} from "./address-plan.ts";
import { Link } from "./link.ts";
import { ISTIOD_HOST } from "./mesh-parts.ts";
import { Mesh } from "./mesh.ts";
import { Netns } from "./netns.ts";
import type { LabNode } from "./node.ts";
import { run } from "./process.ts";
import { clearStateDir, makeStateDir } from "./state.ts";
import { TokenIssuer } from "./tokens.ts";

/** A router answers for what it cannot reach; a plain host would drop it. */
const CONTROL_SYSCTLS = {
  "net/ipv4/ip_forward": "1",
  "net/ipv6/conf/all/forwarding": "1",
  "net/ipv4/conf/all/send_redirects": "0",
  "net/ipv4/conf/default/send_redirects": "0",
};

/** Belong to whoever started us (client.ts, sandbox.ts). */
const KEPT_FILES = ["lab.log", "owner.pid", ".run"];
let labs = 0;

export interface LabOptions {
  /** Names, at most ten characters; two nodes `a` and `b` by default, each in a zone of its name. */
  readonly nodes?: readonly (
    | string
    | { readonly name: string; readonly region?: string; readonly zone?: string }
  )[];
  readonly families?: IpFamilies;
  /** A directory of its own below the sandbox's state directory by default. */
  readonly dir?: string;
  /** Level of the mesh's parts. */
  readonly logLevel?: string;
  readonly tokenTtlSeconds?: number;
  readonly nativeNftables?: boolean;
  readonly ztunnelWorkers?: number;
  /** Keep `lab.json` and the control socket for other processes (`ambit lab …`). */
  readonly control?: boolean;
  /** Faults of the lab's own controllers; standard error by default. */
  readonly onError?: (error: Error) => void;
}

/** What a lab is built on; the stack given to `makeGround` owns it. */
export interface Ground {
  readonly dir: string;
  readonly manifestDir: string;
  readonly families: IpFamilies;
  readonly cluster: DirectoryCluster;
  readonly link: Link;
  readonly control: Netns;
  readonly mesh: Mesh;
  readonly onError: (error: Error) => void;
}

export async function makeGround(
  options: LabOptions,
  stateDir: string,
  undo: AsyncDisposableStack,
): Promise<Ground> {
  const dir = makeStateDir(options.dir ?? join(stateDir, `lab-${++labs}`));
  // a lab that was killed may have left its objects here
  clearStateDir(dir, KEPT_FILES);
  makeStateDir(dir);
  const families = options.families ?? "ipv4";
  const manifestDir = join(dir, "manifests");
  await mkdir(manifestDir, { recursive: true });
  const cluster = new DirectoryCluster(manifestDir);
  const link = undo.use(await Link.create(dir));
  const control = undo.use(await Netns.create("control", CONTROL_SYSCTLS));
  const addresses = linkAddresses(CONTROL_HOST, families);
  await link.connect("control", control, addresses);
  await writeHosts(dir, addresses, undo);
  await writeResolvConf(dir, families, undo);
  const jwksFile = join(dir, "jwks.json");
  const issuer = await TokenIssuer.create(jwksFile);
  const mesh = new Mesh(
    {
      dir,
      control,
      token: options.tokenTtlSeconds === undefined ? {} : { ttlSeconds: options.tokenTtlSeconds },
      files: {
        manifestDir,
        jwksFile,
        rootCertFile: join(dir, "root-cert.pem"),
        caStateDir: makeStateDir(join(dir, "ca")),
        families,
        logLevel: options.logLevel ?? "info",
        nativeNftables: options.nativeNftables ?? true,
        workers: options.ztunnelWorkers ?? 2,
      },
    },
    cluster,
    issuer,
  );
  const onError =
    options.onError ?? ((error: Error) => process.stderr.write(`lab: ${error.message}\n`));
  return { dir, manifestDir, families, cluster, link, control, mesh, onError };
}

/** istiod by its usual name, for every process of the sandbox. */
async function writeHosts(
  dir: string,
  addresses: readonly string[],
  undo: AsyncDisposableStack,
): Promise<void> {
  const lines = [
    "127.0.0.1 localhost",
    "::1 localhost",
    ...addresses.map((a) => `${a} ${ISTIOD_HOST}`),
  ];
  await bindOver("/etc/hosts", join(dir, "hosts"), lines, undo);
}

/** As a kubelet gives it to the mesh's own pods: what their proxies do not know, cluster DNS is asked. */
async function writeResolvConf(
  dir: string,
  families: IpFamilies,
  undo: AsyncDisposableStack,
): Promise<void> {
  const lines = serviceFamilies(families).map(
    (family) => `nameserver ${serviceAddress(DNS_SERVICE_HOST, family)}`,
  );
  await bindOver("/etc/resolv.conf", join(dir, "resolv.conf"), lines, undo);
}

/** Puts a file in the place of the machine's, for the sandbox only. */
async function bindOver(
  target: string,
  file: string,
  lines: readonly string[],
  undo: AsyncDisposableStack,
): Promise<void> {
  await writeFile(file, `${lines.join("\n")}\n`);
  await run(["mount", "--bind", file, target]);
  undo.defer(async () => {
    await run(["umount", target], { allowFailure: true });
  });
}

/**
 * Every node routes the others' pod ranges over the link, and all else to the control machine, which says that
 * it is unreachable: without a default route, service addresses could not even be looked at.
 */
export async function addNodeRoutes(
  node: LabNode,
  nodes: readonly LabNode[],
  families: IpFamilies,
): Promise<void> {
  const gateways = linkAddresses(CONTROL_HOST, families);
  await node.netns.ip([
    ...nodes.filter((n) => n !== node).flatMap(routesTo),
    ...gateways.map((ip) => `route add default via ${ip}`),
  ]);
}

export async function addControlRoutes(control: Netns, nodes: readonly LabNode[]): Promise<void> {
  await control.ip(nodes.flatMap(routesTo));
}

const routesTo = (node: LabNode): string[] =>
  node.podCidrs.map((cidr) => {
    const via = node.addresses.find((a) => a.includes(":") === cidr.includes(":")) ?? "";
    return `route add ${cidr} via ${via} dev eth0`;
  });
