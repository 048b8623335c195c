// A lab for tests. A test file that uses it begins with `await labSandbox()`: the file then runs again
// inside a sandbox, or its lab tests are skipped with the reason.
import type { TestOptions } from "node:test";
import { Lab, type LabOptions } from "../../lab/lab.ts";
import type { LabPod } from "../../lab/pod.ts";
import { enterSandbox } from "../../lab/sandbox.ts";
import { workload } from "../../lab/workloads.ts";

/** Options for every test that needs the lab: a skip with its reason, or none. */
export type NeedsLab = Pick<TestOptions, "skip" | "timeout">;

const TIMEOUT_MS = 60_000;

/**
 * Call once, first thing in the file. AMBIT_REQUIRE_LAB=1, as set where tests must not be skipped, turns a
 * missing privilege into a failure.
 */
export async function labSandbox(): Promise<NeedsLab> {
  const status = await enterSandbox();
  if (status.kind === "inside") return { timeout: TIMEOUT_MS };
  if (process.env["AMBIT_REQUIRE_LAB"] === "1") throw new Error(status.why);
  return { skip: status.why };
}

/** `await using lab = await testLab()` */
export function testLab(options: LabOptions = {}): Promise<Lab> {
  return Lab.create(options);
}

/** A pod that serves `echo-server` on port 8080, ready when this resolves. */
export function echoPod(
  lab: Lab,
  node: string,
  name: string,
  namespace = "default",
): Promise<LabPod> {
  return lab.runPod(node, {
    name,
    namespace,
    labels: { app: name },
    serviceAccount: name,
    ports: [{ name: "tcp", containerPort: 8080 }],
    command: workload("echo-server", { port: 8080, name }),
    readyPort: 8080,
  });
}

/** A pod that waits for `exec` and `start`. */
export function clientPod(
  lab: Lab,
  node: string,
  name: string,
  namespace = "default",
): Promise<LabPod> {
  return lab.runPod(node, { name, namespace, labels: { app: name }, serviceAccount: name });
}

/** One line, `text` so many times, to `host:port` from inside a pod; resolves with the answer. @throws with what the client saw */
export async function ask(
  from: LabPod,
  host: string,
  port: number,
  text = "hello",
  repeat = 1,
): Promise<string> {
  const { stdout } = await from.exec(workload("client", { host, port, text, repeat, count: 1 }));
  const last = JSON.parse(stdout.trim().split("\n").at(-1) ?? "{}") as {
    answer?: string;
    error?: string;
  };
  if (last.answer === undefined) throw new Error(`${from.name} → ${host}:${port}: ${last.error}`);
  return last.answer;
}
