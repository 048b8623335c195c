// Remembers where the runtime made each pod's namespace, for pods of the mesh and others alike: a
// label may come later. One small file per pod, so that a restarted agent still knows.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tryParseIp, type Ip } from "#lib/net/ip.ts";

export interface Sandbox {
  readonly podUid: string;
  readonly name: string;
  readonly namespace: string;
  /** Path as the runtime gave it. */
  readonly netns: string;
  /** `device:inode` when it was recorded; an inode alone may be another namespace by now. */
  readonly netnsId: string;
  readonly ips: readonly Ip[];
  readonly containerId: string;
  readonly network: string;
}

const UID = /^[A-Za-z0-9._-]{1,63}$/;

export class SandboxStore {
  readonly #dir: string;
  readonly #byUid = new Map<string, Sandbox>();

  /** Reads what an earlier agent left; a file that cannot be read is dropped. */
  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    for (const file of readdirSync(dir)) {
      const sandbox = file.endsWith(".json") ? read(join(dir, file)) : null;
      if (sandbox === null || file !== `${sandbox.podUid}.json`)
        rmSync(join(dir, file), { force: true });
      else this.#byUid.set(sandbox.podUid, sandbox);
    }
  }

  get(podUid: string): Sandbox | null {
    return this.#byUid.get(podUid) ?? null;
  }

  all(): readonly Sandbox[] {
    return [...this.#byUid.values()];
  }

  /** Replaces what was known of the pod. @throws for a UID that cannot be a file name */
  put(sandbox: Sandbox): void {
    if (!UID.test(sandbox.podUid)) throw new Error(`Not a pod UID: ${sandbox.podUid}`);
    this.#byUid.set(sandbox.podUid, sandbox);
    const file = join(this.#dir, `${sandbox.podUid}.json`);
    writeFileSync(`${file}.tmp`, JSON.stringify(sandbox), { mode: 0o600 });
    renameSync(`${file}.tmp`, file);
  }

  delete(podUid: string): void {
    if (!this.#byUid.delete(podUid)) return;
    rmSync(join(this.#dir, `${podUid}.json`), { force: true });
  }
}

function read(file: string): Sandbox | null {
  try {
    const json = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    const text = (key: string): string => {
      const value = json[key];
      if (typeof value !== "string") throw new TypeError(`${key} is not a text`);
      return value;
    };
    const ips = (Array.isArray(json["ips"]) ? json["ips"] : [])
      .map((ip) => tryParseIp(String(ip)))
      .filter((ip) => ip !== null);
    return {
      podUid: text("podUid"),
      name: text("name"),
      namespace: text("namespace"),
      netns: text("netns"),
      netnsId: text("netnsId"),
      ips,
      containerId: text("containerId"),
      network: text("network"),
    };
  } catch {
    return null;
  }
}
