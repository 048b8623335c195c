// What istiod would send if the objects were others: a second istiod, for a moment and on its own copy of the
// manifests, asked over xDS as a ztunnel asks. Nothing is translated here, and nothing reaches the mesh.
import { once } from "node:events";
import { existsSync } from "node:fs";
import { access, readFile } from "node:fs/promises";
import { get } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./errors.ts";
import { istiodPlan, SYSTEM_NAMESPACE, type MeshFiles } from "./mesh-parts.ts";
import type { Mesh } from "./mesh.ts";
import { LabProcess } from "./process.ts";
import { isPreviewName } from "./state.ts";
import { TokenIssuer, type TokenSubject } from "./tokens.ts";
import { SNAPSHOT_ACCOUNT, xdsSnapshot, type XdsSnapshot } from "./xds-snapshot.ts";

const READY_TIMEOUT_MS = 15_000;
const POLL_MS = 25;
const STOP_MS = 2_000;
const LOOPBACK = "127.0.0.1";
/** The sandbox's own namespace has no other istiod: that one lives on the control machine. */
const XDS_PORT = 15_012;
const MONITORING_PORT = 15_014;

/** Makes one preview at a time: they share ports. */
export class Previews {
  readonly #dir: string;
  readonly #mesh: Mesh;
  #last: Promise<unknown> = Promise.resolve();

  constructor(dir: string, mesh: Mesh) {
    this.#dir = dir;
    this.#mesh = mesh;
  }

  /**
   * @param name  directory in the lab's, with `manifests/` in it; the caller made it and removes it
   * @throws {LabError} `NOT_FOUND` without such a directory, `NOT_READY` with the tail of istiod's log
   */
  make(name: string): Promise<XdsSnapshot> {
    const result = this.#last.then(() => this.#make(name));
    this.#last = result.catch(() => {});
    return result;
  }

  async #make(name: string): Promise<XdsSnapshot> {
    const dir = join(this.#dir, name);
    const manifestDir = join(dir, "manifests");
    if (!isPreviewName(name)) throw new LabError("NOT_FOUND", `Not a preview: ${name}`);
    await access(manifestDir).catch((cause) => {
      throw new LabError("NOT_FOUND", `No manifests in ${dir}`, { cause });
    });
    const { files, env } = this.#mesh.istiodSettings();
    const { MANIFEST_DIR: _, ...tested } = env;
    return await askIstiod({
      dir,
      files: { ...files, manifestDir },
      env: tested,
      xdsPort: XDS_PORT,
      monitoringPort: MONITORING_PORT,
      issueToken: (subject) => this.#mesh.issueToken(subject),
    });
  }
}

/**
 * The same for objects that come from elsewhere than a lab: in `<dir>/manifests`, with what istiod is to be told in
 * `<dir>/mesh.yaml` where that is there. Everything it needs is made in `dir`, which only its owner may read.
 * @throws {LabError} `NOT_READY` with the tail of istiod's log
 */
export async function previewDirectory(dir: string, env: Env = {}): Promise<XdsSnapshot> {
  const jwksFile = join(dir, "jwks.json");
  const issuer = await TokenIssuer.create(jwksFile);
  const meshConfig = join(dir, "mesh.yaml");
  const [xdsPort, monitoringPort] = await freePorts();
  return await askIstiod({
    dir,
    files: {
      manifestDir: join(dir, "manifests"),
      jwksFile,
      rootCertFile: "",
      caStateDir: "",
      families: "ipv4",
      logLevel: "info",
      nativeNftables: false,
      workers: 1,
    },
    env: { ...env, ...(existsSync(meshConfig) ? { MESH_CONFIG: meshConfig } : {}) },
    xdsPort,
    monitoringPort,
    issueToken: (subject) => issuer.issue(subject),
  });
}

type Env = Readonly<Record<string, string>>;

interface PreviewRun {
  /** Its root certificate and key are made here. */
  readonly dir: string;
  readonly files: MeshFiles;
  readonly env: Env;
  readonly xdsPort: number;
  readonly monitoringPort: number;
  readonly issueToken: (subject: TokenSubject) => Promise<string>;
}

async function askIstiod(run: PreviewRun): Promise<XdsSnapshot> {
  const { dir, xdsPort, monitoringPort } = run;
  const rootCertFile = join(dir, "root-cert.pem");
  const plan = istiodPlan({ ...run.files, rootCertFile, caStateDir: join(dir, "ca") });
  const address = `${LOOPBACK}:${xdsPort}`;
  await using istiod = await LabProcess.start(plan.argv, {
    name: "istiod for a preview",
    env: {
      ...plan.env,
      ...run.env,
      ISTIOD_ADDR: address,
      MONITORING_ADDR: `${LOOPBACK}:${monitoringPort}`,
      SHUTDOWN_DURATION: "0s",
    },
  });
  await ready(istiod, monitoringPort);
  const token = await run.issueToken({
    namespace: SYSTEM_NAMESPACE,
    serviceAccount: SNAPSHOT_ACCOUNT,
  });
  const rootCert = await readFile(rootCertFile);
  const snapshot = await xdsSnapshot({ address, rootCert, token });
  await istiod.stop(STOP_MS);
  return snapshot;
}

/** Two ports nobody listens at now; who takes one in between makes istiod say so. */
async function freePorts(): Promise<readonly [number, number]> {
  const servers = [createServer(), createServer()];
  for (const s of servers) await once(s.listen(0, LOOPBACK), "listening");
  const [a = 0, b = 0] = servers.map((s) => (s.address() as AddressInfo).port);
  for (const s of servers) s.close();
  return [a, b];
}

/** @throws {LabError} `NOT_READY` */
async function ready(istiod: LabProcess, port: number): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!(await answers(port))) {
    if (istiod.running && Date.now() < deadline) await sleep(POLL_MS);
    else throw new LabError("NOT_READY", `${istiod.name} does not start:\n${istiod.tail()}`);
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({
      host: LOOPBACK,
      port,
      path: "/ready",
      timeout: 1_000,
    });
    request.once("response", (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.once("timeout", () => request.destroy());
    request.once("error", () => resolve(false));
  });
}
