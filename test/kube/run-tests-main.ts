// `make kube-test`: brings the programs first, which can take longer than any test may, then runs the test files given.
// A machine that cannot have the programs goes without these tests and is told why; AMBIT_REQUIRE_LAB=1 forbids that.
import { spawn } from "node:child_process";
import { LabError } from "../../lab/errors.ts";
import { program } from "./binaries.ts";
import { crdFiles } from "./crds.ts";

const FILE_TIMEOUT_MS = 600_000;

async function main(): Promise<number> {
  try {
    await Promise.all([program("kube-apiserver"), program("kubelet"), program("etcd")]);
    await crdFiles("gateway-api");
  } catch (error) {
    const isMissing = error instanceof LabError && error.code === "MISSING_PROGRAM";
    if (!isMissing || process.env["AMBIT_REQUIRE_LAB"] === "1") throw error;
    process.stdout.write(`Left out: tests on a real Kubernetes. ${error.message}\n`);
    return 0;
  }
  const options = ["--test", "--test-concurrency=1", `--test-timeout=${FILE_TIMEOUT_MS}`];
  const tests = spawn(process.execPath, [...options, ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => tests.kill(signal));
  const { promise, resolve } = Promise.withResolvers<number>();
  tests.once("exit", (code) => resolve(code ?? 1));
  return await promise;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  },
);
