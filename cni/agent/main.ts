// Starts the node agent from the environment. Runs in the node's network namespace, or is told its path.
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { createLogger } from "#lib/obs/log.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { startApp } from "./app.ts";
import { readConfig, type AgentConfig } from "./config.ts";
import { AgentError, explain } from "./errors.ts";

function configOrExit(): AgentConfig {
  try {
    return readConfig(process.env);
  } catch (error) {
    console.error(explain(error));
    process.exit(2);
  }
}

const config = configOrExit();
const log = createLogger({ scope: "cni-agent", level: config.logLevel, format: config.logFormat });
try {
  raiseOpenFiles(); // one descriptor per pod, more while things change
  if (config.manifestDir === null)
    throw new AgentError("BAD_CONFIG", "Cannot start: MANIFEST_DIR is not set");
  const app = await startApp({
    config,
    cluster: new DirectoryCluster(config.manifestDir),
    annotationSubresource: null,
    log,
  });
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, "stopping; rules stay in place");
    app[Symbol.asyncDispose]().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ error: explain(error) }, "stopping failed");
        process.exit(1);
      },
    );
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
} catch (error) {
  log.error({ error: explain(error) }, "cannot start");
  process.exit(1);
}
