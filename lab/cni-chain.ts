// Calls CNI plugins the way a container runtime does: the first network configuration of the node's
// directory, ADD in order with each result handed on, DEL in reverse from what ADD left behind.
// Follows containernetworking/cni SPEC.md 1.0, sections 1 to 4.
import { access, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { LabError } from "./errors.ts";
import { enterArgv } from "./netns.ts";
import { run } from "./process.ts";

/** A kubelet gives a sandbox longer; a plugin that hangs this long is broken. */
const PLUGIN_TIMEOUT_MS = 20_000;

export interface CniPluginConfig {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface CniNetworkConfig {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly CniPluginConfig[];
}

export interface CniResult {
  readonly ips?: readonly {
    readonly address: string;
    readonly gateway?: string;
    readonly interface?: number;
  }[];
  readonly [key: string]: unknown;
}

/** One pod sandbox as plugins are told of it. */
export interface CniAttachment {
  readonly containerId: string;
  readonly netnsPath: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly podUid: string;
}

export interface CniChainOptions {
  /** Name of the namespace the plugins run in: the node's. */
  readonly netns: string;
  /** Configuration files (`*.conflist`, `*.conf`), first by name wins. */
  readonly configDir: string;
  /** Searched in order for the executables. */
  readonly binDirs: readonly string[];
  /** What ADD returned is kept here until DEL. */
  readonly cacheDir: string;
}

interface CachedAdd {
  readonly kind: "cniCacheV1";
  readonly containerId: string;
  readonly config: CniNetworkConfig;
  readonly ifName: string;
  readonly result: CniResult | null;
}

const LOOPBACK: CniNetworkConfig = {
  cniVersion: "1.0.0",
  name: "cni-loopback",
  plugins: [{ type: "loopback" }],
};

export class CniChain {
  readonly #options: CniChainOptions;

  constructor(options: CniChainOptions) {
    this.#options = options;
  }

  /**
   * Attaches the sandbox to loopback and to the node's network. On failure what was done is undone.
   * @throws {LabError} `CNI` with the plugin's own message
   */
  async add(attachment: CniAttachment): Promise<CniResult> {
    try {
      await this.#addNetwork(LOOPBACK, "lo", attachment);
      return await this.#addNetwork(await this.readConfig(), "eth0", attachment);
    } catch (error) {
      await this.delete(attachment).catch(() => {}); // the first failure is the one to report
      throw error;
    }
  }

  /** Succeeds when the sandbox was never attached. */
  async delete(attachment: CniAttachment): Promise<void> {
    for (const ifName of ["eth0", "lo"]) {
      const cached = await this.#readCache(attachment, ifName);
      if (cached === null) continue;
      for (const plugin of cached.config.plugins.toReversed())
        await this.#invoke("DEL", cached.config, plugin, cached.result, ifName, attachment);
      await rm(this.#cacheFile(attachment, ifName), { force: true });
    }
  }

  /** @throws {LabError} `CNI` when a plugin finds the attachment damaged */
  async check(attachment: CniAttachment): Promise<void> {
    for (const ifName of ["lo", "eth0"]) {
      const cached = await this.#readCache(attachment, ifName);
      if (cached === null)
        throw new LabError("CNI", `${attachment.podName} has no ${ifName} attachment to check`);
      for (const plugin of cached.config.plugins)
        await this.#invoke("CHECK", cached.config, plugin, cached.result, ifName, attachment);
    }
  }

  /** The first file that holds a network, as the kubelet's runtime picks it. @throws {LabError} `CNI` */
  async readConfig(): Promise<CniNetworkConfig> {
    const names = (await readdir(this.#options.configDir))
      .filter((n) => /\.conf(list)?$/.test(n))
      .sort();
    for (const name of names) {
      const parsed = parseConfig(await readFile(join(this.#options.configDir, name), "utf8"));
      if (parsed !== null && parsed.plugins.length > 0) return parsed;
    }
    throw new LabError("CNI", `No network configuration in ${this.#options.configDir}`);
  }

  async #addNetwork(
    config: CniNetworkConfig,
    ifName: string,
    attachment: CniAttachment,
  ): Promise<CniResult> {
    let result: CniResult | null = null;
    // written first: a DEL after a failed ADD must reach every plugin that may have done something
    await this.#writeCache(config, ifName, attachment, null);
    for (const plugin of config.plugins)
      result = await this.#invoke("ADD", config, plugin, result, ifName, attachment);
    await this.#writeCache(config, ifName, attachment, result);
    return result ?? {};
  }

  async #invoke(
    command: "ADD" | "DEL" | "CHECK",
    config: CniNetworkConfig,
    plugin: CniPluginConfig,
    prevResult: CniResult | null,
    ifName: string,
    attachment: CniAttachment,
  ): Promise<CniResult | null> {
    const executable = await this.#find(plugin.type);
    const input = {
      ...plugin,
      cniVersion: config.cniVersion,
      name: config.name,
      ...(prevResult === null ? {} : { prevResult }),
    };
    const { code, stdout, stderr } = await run(enterArgv(this.#options.netns, [executable]), {
      input: JSON.stringify(input),
      timeoutMs: PLUGIN_TIMEOUT_MS,
      allowFailure: true,
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: attachment.containerId,
        CNI_NETNS: attachment.netnsPath,
        CNI_IFNAME: ifName,
        CNI_PATH: this.#options.binDirs.join(delimiter),
        CNI_ARGS: [
          "IgnoreUnknown=1",
          `K8S_POD_NAMESPACE=${attachment.podNamespace}`,
          `K8S_POD_NAME=${attachment.podName}`,
          `K8S_POD_INFRA_CONTAINER_ID=${attachment.containerId}`,
          `K8S_POD_UID=${attachment.podUid}`,
        ].join(";"),
      },
    });
    if (code !== 0)
      throw new LabError(
        "CNI",
        `${command} of plugin ${plugin.type} for ${attachment.podNamespace}/${attachment.podName}: ${pluginError(stdout) ?? (stderr.trim() || `status ${code}`)}`,
      );
    if (command !== "ADD") return null;
    try {
      return JSON.parse(stdout) as CniResult;
    } catch (cause) {
      throw new LabError(
        "CNI",
        `Plugin ${plugin.type} printed no result: ${stdout.slice(0, 200)}`,
        { cause },
      );
    }
  }

  async #find(type: string): Promise<string> {
    for (const dir of this.#options.binDirs) {
      const path = join(dir, type);
      if (
        await access(path).then(
          () => true,
          () => false,
        )
      )
        return path;
    }
    throw new LabError(
      "CNI",
      `failed to find plugin "${type}" in path [${this.#options.binDirs.join(" ")}]`,
    );
  }

  #cacheFile(attachment: CniAttachment, ifName: string): string {
    return join(this.#options.cacheDir, `${attachment.containerId}-${ifName}`);
  }

  async #writeCache(
    config: CniNetworkConfig,
    ifName: string,
    attachment: CniAttachment,
    result: CniResult | null,
  ): Promise<void> {
    await mkdir(this.#options.cacheDir, { recursive: true });
    const cached: CachedAdd = {
      kind: "cniCacheV1",
      containerId: attachment.containerId,
      config,
      ifName,
      result,
    };
    await writeFile(this.#cacheFile(attachment, ifName), JSON.stringify(cached));
  }

  async #readCache(attachment: CniAttachment, ifName: string): Promise<CachedAdd | null> {
    const text = await readFile(this.#cacheFile(attachment, ifName), "utf8").catch(() => null);
    return text === null ? null : (JSON.parse(text) as CachedAdd);
  }
}

/** A list, or a single plugin's configuration as a list of one; `null` for neither. */
function parseConfig(text: string): CniNetworkConfig | null {
  try {
    const parsed = JSON.parse(text) as Partial<CniNetworkConfig> & { readonly type?: string };
    const { cniVersion = "0.2.0", name = "" } = parsed;
    if (Array.isArray(parsed.plugins)) return { cniVersion, name, plugins: parsed.plugins };
    if (typeof parsed.type !== "string") return null;
    return { cniVersion, name, plugins: [{ ...parsed, type: parsed.type }] };
  } catch {
    return null; // a runtime skips what it cannot read
  }
}

/** Error reply of a plugin (SPEC.md section 5): `{code, msg, details}` on standard output. */
function pluginError(stdout: string): string | null {
  try {
    const { code, msg, details } = JSON.parse(stdout) as {
      code?: number;
      msg?: string;
      details?: string;
    };
    if (msg === undefined) return null;
    return `${msg}${details === undefined || details === "" ? "" : `; ${details}`} (code ${code})`;
  } catch {
    return null;
  }
}
