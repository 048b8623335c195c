// A lab without processes, for tests: a state directory, manifests, and a control socket that answers for ztunnels.
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ambit, type Ran, type RunOptions } from "./run-command.ts";

export interface TestLab extends AsyncDisposable {
  readonly dir: string;
  readonly manifestDir: string;
  run(line: string | readonly string[], options?: RunOptions): Promise<Ran>;
}

/** @param answer  serves the control socket; without it nobody listens there */
export async function testLab(
  nodes: readonly string[] = ["a", "b"],
  answer: RequestListener | null = null,
): Promise<TestLab> {
  const dir = await mkdtempDisposable(join(tmpdir(), "ambit-cli-"));
  const manifestDir = join(dir.path, "manifests");
  const controlSocket = join(dir.path, "control.sock");
  mkdirSync(manifestDir);
  const state = {
    manifestDir,
    controlSocket,
    nodes: nodes.map((name) => ({ name, ztunnelAdmin: `/nodes/${name}/ztunnel/` })),
  };
  writeFileSync(join(dir.path, "lab.json"), JSON.stringify(state));
  const server = answer === null ? null : createServer(answer);
  if (server !== null) await once(server.listen(controlSocket), "listening");
  return {
    dir: dir.path,
    manifestDir,
    run: async (line, options) =>
      await ambit(line, { ...options, env: { AMBIT_LAB: dir.path, ...options?.env } }),
    async [Symbol.asyncDispose]() {
      server?.closeAllConnections();
      server?.close();
      await dir.remove();
    },
  };
}
