// `make kube-up`: a cluster that stays until `make kube-down`. Flags: --nodes N, --ip-family ipv4|ipv6|dual.
// Run without `--serve` it starts itself with it in the background, waits and says how to use the result.
import { spawn } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { linkAddresses, type IpFamilies } from "../../lab/address-plan.ts";
import { LabError } from "../../lab/errors.ts";
import { sandbox } from "../../lab/sandbox.ts";
import { makeStateDir } from "../../lab/state.ts";
import { program } from "./binaries.ts";
import { API_HOST, API_PORT } from "./cluster-network.ts";
import { KubeCluster } from "./kube-cluster.ts";
import { enterKubeSandbox } from "./kube-sandbox.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { relay } from "./relay.ts";
import {
  findOwner,
  findStanding,
  howToUse,
  logFile,
  ownerFile,
  standingDir,
  standingFile,
  standsSince,
} from "./standing-cluster.ts";
import { isAlive, processMark } from "./temp-dir.ts";

const PORT_VARIABLE = "AMBIT_KUBE_PORT";
/** A first start also builds the image. */
const START_MS = 300_000;

const { values } = parseArgs({
  options: {
    serve: { type: "boolean", default: false },
    nodes: { type: "string", default: "2" },
    "ip-family": { type: "string", default: "ipv4" },
  },
});

try {
  await (values.serve ? serve() : startAndTell());
} catch (error) {
  process.stderr.write(`${error instanceof LabError ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function startAndTell(): Promise<void> {
  const dir = standingDir();
  const stoodAlready = findOwner(dir) !== null;
  if (!stoodAlready) {
    // builds show their progress here
    await program("kubelet");
    rmSync(dir, { recursive: true, force: true });
    makeStateDir(dir);
    const log = openSync(logFile(dir), "a");
    const argv = [import.meta.filename, "--serve", ...process.argv.slice(2)];
    const child = spawn(process.execPath, argv, { detached: true, stdio: ["ignore", log, log] });
    child.unref();
    const mark = processMark(child.pid ?? 0) ?? "";
    writeFileSync(ownerFile(dir), mark);
    for (const deadline = Date.now() + START_MS; findStanding(dir) === null; await sleep(100))
      if (!isAlive(mark) || Date.now() > deadline)
        throw new LabError("NOT_READY", `No cluster:\n${tail(logFile(dir))}`);
  }
  const found = findStanding(dir);
  if (found === null) throw new LabError("CONFLICT", "Another start is under way");
  const since = stoodAlready ? standsSince(dir) : null;
  process.stdout.write(howToUse(found, await program("kubectl"), since));
}

async function serve(): Promise<void> {
  const dir = standingDir();
  const socket = join(dir, "api.sock");
  if (sandbox() === null) {
    // our end ends the cluster; until then we pass connections into the sandbox
    const server = await relay({ host: "127.0.0.1", port: 0 }, { path: socket });
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    process.env[PORT_VARIABLE] = `${address.port} ${processMark(process.pid)}`;
    const why = await enterKubeSandbox(dir);
    if (why !== null) throw new LabError("NO_SANDBOX", why);
  }
  const ipFamily = parseFamily(values["ip-family"]);
  const [port = "", ...owner] = (process.env[PORT_VARIABLE] ?? "").split(" ");
  const stop = new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.once(signal, resolve);
  });
  await using cluster = await KubeCluster.start({
    nodes: Number(values.nodes),
    ipFamily,
    crds: ["gateway-api"],
    images: ["workload", "ambit"],
  });
  const host = linkAddresses(API_HOST, ipFamily)[0] ?? "";
  const server = await relay({ path: socket }, { host, port: API_PORT });
  const kubeconfig = await writeKubeconfig({
    file: join(dir, "kubeconfig"),
    url: `https://127.0.0.1:${port}`,
    caFile: cluster.api.caFile,
    user: { token: cluster.api.token },
  });
  const nodes = cluster.nodes.map(({ name }) => name);
  const state = { owner: owner.join(" "), kubeconfig, nodes, logs: cluster.dir };
  writeFileSync(standingFile(dir), JSON.stringify(state), { mode: 0o600 });
  await stop;
  rmSync(standingFile(dir), { force: true });
  server.close();
}

function parseFamily(text: string): IpFamilies {
  if (text === "ipv4" || text === "ipv6" || text === "dual") return text;
  throw new LabError("CONFLICT", `--ip-family is ipv4, ipv6 or dual, not ${text}`);
}

function tail(file: string): string {
  return existsSync(file)
    ? readFileSync(file, "utf8").trimEnd().split("\n").slice(-20).join("\n")
    : "";
}
