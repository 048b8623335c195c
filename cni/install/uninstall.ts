// Takes the plugin off the node. The network configuration first: a runtime that still names an
// executable which is gone could start no pod at all.
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "#lib/obs/log.ts";
import { dropLeftovers, writeAtomic } from "./atomic-file.ts";
import { Binaries } from "./binaries.ts";
import { PLUGIN_TYPE, type InstallConfig } from "./config.ts";
import { kubeconfigPath } from "./kubeconfig.ts";
import { hasOurs, withoutEntry } from "./net-config.ts";
import { ownFileNames, readNetFiles } from "./net-dir.ts";

/** Goes on after a failed step. Returns what could not be removed. */
export async function uninstall(config: InstallConfig, log: Logger): Promise<readonly string[]> {
  const faults: string[] = [];
  const attempt = async (what: string, act: () => void | Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      faults.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
  await attempt(config.netDir, () => removeEntries(config, log, attempt));
  const kubeconfig = kubeconfigPath(config);
  await attempt(kubeconfig, () => remove(kubeconfig));
  const binary = join(config.binDir, PLUGIN_TYPE);
  await attempt(binary, () => remove(binary));
  await attempt(config.binDir, () => new Binaries(config.sourceDir, config.binDir).remove());
  return faults;
}

/** Out of every file, also of one that was the primary once. */
async function removeEntries(
  config: InstallConfig,
  log: Logger,
  attempt: (what: string, act: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const own = new Set(ownFileNames(config));
  for (const name of own) {
    const path = join(config.netDir, name);
    await attempt(path, async () => remove(path));
  }
  for (const file of readNetFiles(config.netDir)) {
    if (own.has(file.name) || !hasOurs(file.config)) continue;
    const path = join(config.netDir, file.name);
    await attempt(path, async () => {
      const text = withoutEntry(file.config);
      if (text === null) remove(path);
      else await writeAtomic(path, text, file.mode);
      log.info({ file: file.name }, "plugin taken out of the network configuration");
    });
  }
}

function remove(path: string): void {
  rmSync(path, { force: true });
  dropLeftovers(path);
}
