// The program behind `ambit lab up`: makes a lab, says "ready", and keeps it until a signal or /down.
import { parseArgs } from "node:util";
import type { IpFamilies } from "./address-plan.ts";
import { Lab } from "./lab.ts";
import { requireSandbox } from "./sandbox.ts";
import { defaultStateDir, makeStateDir } from "./state.ts";

const { values } = parseArgs({
  options: {
    dir: { type: "string" },
    nodes: { type: "string", default: "a,b" },
    families: { type: "string", default: "ipv4" },
    mesh: { type: "boolean", default: false },
  },
});

async function main(): Promise<void> {
  const families = (["ipv4", "ipv6", "dual"] as const).find(
    (f): f is IpFamilies => f === values.families,
  );
  if (families === undefined)
    throw new Error(`--families=${values.families}: expected ipv4, ipv6 or dual`);
  const dir = makeStateDir(values.dir ?? defaultStateDir());
  await requireSandbox({ stateDir: dir });
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.once(signal, () => resolve());
  });
  await using lab = await Lab.create({
    dir,
    families,
    nodes: values.nodes.split(","),
    control: true,
  });
  if (values.mesh) await lab.mesh.startAll();
  process.stdout.write("ready\n");
  await stopped;
}

main().catch((error: Error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
});
