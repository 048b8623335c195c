// One run of the node proxy: configuration, log output and signals around the app.
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { createLogger } from "#lib/obs/log.ts";
import { logCrashes, stopOnSignals } from "#lib/obs/process-end.ts";
import { LogScopes } from "#lib/obs/log-scopes.ts";
import { LogSink } from "#lib/obs/log-sink.ts";
import { ConfigError, type Env } from "#lib/base/config-reader.ts";
import { runApp } from "./app.ts";
import { MESH_FILE, readConfig, type Config } from "./config.ts";

/**
 * @param exit    ends the process at once: the second SIGINT
 * @param worker  module of the data-plane workers
 * @returns the exit code
 */
export async function run(env: Env, exit: (code: number) => void, worker: URL): Promise<number> {
  using sink = new LogSink({ fd: 1 });
  const config = await readEnvironment(env, sink);
  if (config === null) return 1;
  const { logFilter: filter, logFormat: format } = config;
  const scopes = new LogScopes({ filter, format, destination: sink });
  const log = scopes.logger("app");
  const stop = stopOnSignals(sink, exit);
  logCrashes("ztunnel", log, sink);
  try {
    const writeLines = (text: string | Uint8Array): void => sink.write(text);
    await runApp({ config, scopes, worker, writeLines, stop });
    return 0;
  } catch (error) {
    log.error({ error }, "ztunnel failed");
    return 1;
  }
}

/** Null after the mistakes have been printed. */
async function readEnvironment(env: Env, sink: LogSink): Promise<Config | null> {
  const meshFile = existsSync(MESH_FILE) ? readFileSync(MESH_FILE, "utf8") : null;
  // Loaded on need: most proxies are configured by plain variables.
  const isYamlGiven = meshFile !== null || (env["PROXY_CONFIG"] ?? "") !== "";
  const yaml = isYamlGiven ? (await import("yaml")).default : null;
  try {
    return readConfig(env, {
      cores: availableParallelism(),
      exists: existsSync,
      meshFile,
      parseYaml: (text) => yaml?.parse(text) as unknown,
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const log = createLogger({ scope: "app", level: "info", format: "plain", destination: sink });
    log.error({ error }, "cannot start");
    return null;
  }
}
