// The istiod program: environment in, exit status out.
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { createLogger } from "#lib/obs/log.ts";
import { App, packageVersion } from "./app.ts";
import { apiServerBackend, type Backend, directoryBackend } from "./backend.ts";
import { readConfig, type Config } from "./config.ts";
import { IstiodError } from "./errors.ts";

/** Settings that cannot work end the program with status 2 and one line on each. */
function exitFor(error: unknown): never {
  if (!(error instanceof IstiodError || error instanceof KubeError)) throw error;
  console.error(error.message);
  process.exit(2);
}

function configOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    return exitFor(error);
  }
}

async function backendOrExit(): Promise<Backend> {
  const { manifestDir, kubeconfig } = config;
  if (manifestDir !== null) return directoryBackend(config, new DirectoryCluster(manifestDir), log);
  try {
    const where = kubeconfig === null ? {} : { kubeconfig };
    const apiServer = await openApiServer({ ...where, userAgent: "istiod" });
    log.info({ url: apiServer.url, context: apiServer.context }, "using the API server");
    return apiServerBackend(config, new ApiServerCluster(apiServer, { log }), log);
  } catch (error) {
    return exitFor(error);
  }
}

const config = configOrExit();
const log = createLogger({ scope: "istiod", level: config.logLevel, format: config.logFormat });
const version = packageVersion();
const stopped = Promise.withResolvers<string>();
for (const signal of ["SIGTERM", "SIGINT"] as const)
  process.once(signal, () => stopped.resolve(signal));

log.info({ version, pid: process.pid, manifests: config.manifestDir }, "istiod starting");
const app = new App({ config, backend: await backendOrExit(), log, version });
let status = 0;
try {
  const started = app.start().then(() => stopped.promise);
  const failed = app.failed.then((error) => Promise.reject(error));
  const reason = await Promise.race([started, stopped.promise, failed]);
  log.info({ reason }, "istiod stopping");
} catch (error) {
  log.error({ error }, "istiod failed");
  status = error instanceof IstiodError && error.code === "CONFIG_INVALID" ? 2 : 1;
}
// Parts that hang must not keep a process alive that everybody believes gone.
setTimeout(() => process.exit(status || 1), config.shutdownMs + 1_000).unref();
await app[Symbol.asyncDispose]();
log.info("istiod stopped");
process.exit(status);
