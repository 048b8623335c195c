// The waypoint's process: configuration, log output and signals around the app.
import { existsSync } from "node:fs";
import { ConfigError } from "#lib/base/config-reader.ts";
import { LogScopes } from "#lib/obs/log-scopes.ts";
import { LogSink } from "#lib/obs/log-sink.ts";
import { createLogger } from "#lib/obs/log.ts";
import { logCrashes, stopOnSignals } from "#lib/obs/process-end.ts";
import { hasIpv6Loopback } from "#lib/sys/ipv6-loopback.ts";
import { runApp } from "./app.ts";
import { readConfig, type Config } from "./config.ts";

/** @returns the exit code */
async function main(sink: LogSink): Promise<number> {
  let config: Config;
  try {
    config = readConfig(process.env, { exists: existsSync, hasIpv6: hasIpv6Loopback() });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const log = createLogger({ scope: "app", level: "info", format: "plain", destination: sink });
    log.error({ error }, "cannot start");
    return 1;
  }
  const { logFilter: filter, logFormat: format } = config;
  const scopes = new LogScopes({ filter, format, destination: sink });
  const log = scopes.logger("app");
  const stop = stopOnSignals(sink, (code) => process.exit(code));
  logCrashes("waypoint", log, sink);
  try {
    const writeLines = (text: string | Uint8Array): void => sink.write(text);
    await runApp({ config, scopes, writeLines, stop });
    return 0;
  } catch (error) {
    log.error({ error }, "waypoint failed");
    return 1;
  }
}

{
  using sink = new LogSink({ fd: 1 });
  process.exitCode = await main(sink);
}
// Anything still open (a client of the admin port) must not hold the process.
process.exit();
