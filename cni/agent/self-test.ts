// Whether a pod of the mesh could start on this node now, looked at from outside: as a runtime calls the
// plugin and as the plugin calls the agent. That rules work here was proven at start (rules/detect.ts).
import { execFile } from "node:child_process";
import { request } from "node:http";
import { join } from "node:path";
import { promisify } from "node:util";
import { explain } from "./errors.ts";

export interface SelfTestOptions {
  /** The executable on the node; `null` where somebody else installs it. */
  readonly plugin: string | null;
  readonly runDir: string;
  /** What is not installed; empty when all is. */
  readonly installFaults: () => Promise<readonly string[]>;
  /** Absent: a ztunnel is not needed. */
  readonly ztunnels?: () => number;
}

const EXECUTION_TIMEOUT_MS = 5_000;
const ANSWER_TIMEOUT_MS = 2_000;

/** What fails; empty when nothing does. Never throws. */
export async function selfTest(o: SelfTestOptions): Promise<readonly string[]> {
  const faults = [...(await o.installFaults())];
  const attempt = async (what: string, act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      faults.push(`${what}: ${explain(error)}`);
    }
  };
  const { plugin } = o;
  if (plugin !== null && faults.length === 0) await attempt(plugin, () => runPlugin(plugin));
  await attempt("the agent's socket", () => askStatus(join(o.runDir, "pluginevent.sock")));
  if (o.ztunnels?.() === 0) faults.push("no ztunnel is connected");
  return faults;
}

/** The executable starts here and speaks CNI. */
async function runPlugin(path: string): Promise<void> {
  const { stdout } = await promisify(execFile)(path, [], {
    env: { CNI_COMMAND: "VERSION" },
    timeout: EXECUTION_TIMEOUT_MS,
    maxBuffer: 64 << 10,
  });
  const { supportedVersions } = JSON.parse(stdout) as { supportedVersions?: unknown };
  if (!Array.isArray(supportedVersions)) throw new Error("it names no CNI versions");
}

function askStatus(socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: "/status", timeout: ANSWER_TIMEOUT_MS },
      (response) => {
        response.resume();
        if (response.statusCode === 200) resolve();
        else reject(new Error(`it answers ${response.statusCode}`));
      },
    );
    asked.once("timeout", () => asked.destroy(new Error("no answer in time")));
    asked.once("error", reject);
    asked.end();
  });
}
