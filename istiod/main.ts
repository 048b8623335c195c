// The istiod program: environment in, exit status out.
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { createLogger } from "#lib/obs/log.ts";
import { App, packageVersion } from "./app.ts";
import { readConfig, type Config } from "./config.ts";
import { IstiodError } from "./errors.ts";

function configOrExit(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (!(error instanceof IstiodError)) throw error;
    console.error(error.message);
    process.exit(2);
  }
}

const config = configOrExit();
const log = createLogger({ scope: "istiod", level: config.logLevel, format: config.logFormat });
const version = packageVersion();
const stopped = Promise.withResolvers<string>();
for (const signal of ["SIGTERM", "SIGINT"] as const)
  process.once(signal, () => stopped.resolve(signal));

log.info({ version, pid: process.pid, manifests: config.manifestDir }, "istiod starting");
const app = new App({ config, cluster: new DirectoryCluster(config.manifestDir), log, version });
let status = 0;
try {
  const started = app.start().then(() => stopped.promise);
  const failed = app.failed.then((error) => Promise.reject(error));
  const reason = await Promise.race([started, stopped.promise, failed]);
  log.info({ reason }, "istiod stopping");
} catch (error) {
  log.error({ error }, "istiod failed");
  status = 1;
}
// Parts that hang must not keep a process alive that everybody believes gone.
setTimeout(() => process.exit(status || 1), config.shutdownMs + 1_000).unref();
await app[Symbol.asyncDispose]();
log.info("istiod stopped");
process.exit(status);
