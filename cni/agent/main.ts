// Starts the node agent from the environment. Runs in the node's network namespace, or is told its path.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createLogger } from "#lib/obs/log.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import { startApp, type AppOptions } from "./app.ts";
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

/** A directory of manifests, or the API server with the pod's service account. */
async function openCluster(): Promise<
  Pick<AppOptions, "cluster" | "annotationSubresource"> & Pick<Partial<AppOptions>, "mintToken">
> {
  if (config.manifestDir !== null) {
    const { DirectoryCluster } = await import("#lib/kube/directory-cluster.ts");
    return { cluster: new DirectoryCluster(config.manifestDir), annotationSubresource: null };
  }
  const { openApiServer } = await import("#lib/kube/api-server/open-api-server.ts");
  const { ApiServerCluster } = await import("#lib/kube/api-server/api-server-cluster.ts");
  const { tokenMint } = await import("./mint-token.ts");
  const { install } = config;
  const apiServer = await openApiServer({
    userAgent: "istio-cni-node",
    ...(install === null ? {} : { serviceAccountDir: install.serviceAccountDir }),
  });
  return {
    cluster: new ApiServerCluster(apiServer, { log }),
    annotationSubresource: "status",
    mintToken: tokenMint(apiServer, config.nodeName),
  };
}

/**
 * iptables-legacy takes a lock file in /run, which a container has only if it is mounted. Where it is not,
 * the lock of this agent's own calls has to do.
 */
function chooseXtablesLock(): void {
  if (process.env["XTABLES_LOCKFILE"] !== undefined || existsSync("/run/xtables.lock")) return;
  process.env["XTABLES_LOCKFILE"] = join(config.runDir, "xtables.lock");
}

const config = configOrExit();
const log = createLogger({ scope: "cni-agent", level: config.logLevel, format: config.logFormat });
// from the first moment: process 1 of a container is not stopped by a signal it has no handler for
const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"] as const)
  process.once(signal, () => {
    log.info({ signal }, "stopping; what is inside pods stays in place");
    stop.abort();
  });
try {
  if (config.manifestDir === null) chooseXtablesLock();
  raiseOpenFiles(); // one descriptor per pod, more while things change
  const app = await startApp({
    config,
    ...(await openCluster()),
    log,
    signal: stop.signal,
  });
  if (!stop.signal.aborted)
    await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
  await app.leave();
  process.exit(0);
} catch (error) {
  if (error instanceof AgentError && error.code === "STOPPED") process.exit(0);
  log.error({ error: explain(error) }, "the agent fails");
  process.exit(1);
}
