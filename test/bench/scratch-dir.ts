// Directories for a figure's files: inside the sandbox's own, which goes with the sandbox however that ends.
import { mkdtempSync } from "node:fs";
import { join } from "node:path";
import { requireSandbox } from "../../lab/sandbox.ts";

export async function scratchDir(): Promise<string> {
  const { stateDir } = await requireSandbox();
  return mkdtempSync(join(stateDir, "bench-"));
}
