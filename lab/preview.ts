// What istiod would send if the objects were others: a second istiod, for a moment and on its own copy of the
// manifests, asked over xDS as a ztunnel asks. Nothing is translated here, and nothing reaches the mesh.
import { access, readFile } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./errors.ts";
import { istiodPlan, SYSTEM_NAMESPACE } from "./mesh-parts.ts";
import type { Mesh } from "./mesh.ts";
import { LabProcess } from "./process.ts";
import { isPreviewName } from "./state.ts";
import { SNAPSHOT_ACCOUNT, xdsSnapshot, type XdsSnapshot } from "./xds-snapshot.ts";

const READY_TIMEOUT_MS = 15_000;
const POLL_MS = 25;
const STOP_MS = 2_000;
/** The sandbox's own namespace has no other istiod: that one lives on the control machine. */
const XDS_ADDRESS = "127.0.0.1:15012";
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
    const rootCertFile = join(dir, "root-cert.pem");
    const settings = this.#mesh.istiodSettings();
    const files = { ...settings.files, manifestDir, rootCertFile, caStateDir: join(dir, "ca") };
    const plan = istiodPlan(files);
    const { MANIFEST_DIR: _, ...tested } = settings.env;
    await using istiod = await LabProcess.start(plan.argv, {
      name: "istiod for a preview",
      env: {
        ...plan.env,
        ...tested,
        ISTIOD_ADDR: XDS_ADDRESS,
        MONITORING_ADDR: `127.0.0.1:${MONITORING_PORT}`,
        SHUTDOWN_DURATION: "0s",
      },
    });
    await ready(istiod);
    const token = await this.#mesh.issueToken({
      namespace: SYSTEM_NAMESPACE,
      serviceAccount: SNAPSHOT_ACCOUNT,
    });
    const rootCert = await readFile(rootCertFile);
    const snapshot = await xdsSnapshot({ address: XDS_ADDRESS, rootCert, token });
    await istiod.stop(STOP_MS);
    return snapshot;
  }
}

/** @throws {LabError} `NOT_READY` */
async function ready(istiod: LabProcess): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!(await answers())) {
    if (istiod.running && Date.now() < deadline) await sleep(POLL_MS);
    else throw new LabError("NOT_READY", `${istiod.name} does not start:\n${istiod.tail()}`);
  }
}

function answers(): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({
      host: "127.0.0.1",
      port: MONITORING_PORT,
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
