// "In a cluster" of README.md, run as it is written on real kubelets; only what comes from the internet is there before.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { text } from "node:stream/consumers";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { program } from "../binaries.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";

const needs = await kubeSandbox();
const ROOT = resolve(import.meta.dirname, "../../..");
const FROM_THE_INTERNET = /^kubectl apply --server-side -f https:.*$/gm;

function commands(): string {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  const section = /^## In a cluster$([^]*?)^## /m.exec(readme)?.[1] ?? "";
  const blocks = [...section.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, code]) => code);
  return blocks.join("").replace(FROM_THE_INTERNET, "");
}

test("the README's way into a cluster and out of it", { ...needs, timeout: 300_000 }, async () => {
  await using cluster = await KubeCluster.start({ crds: ["gateway-api"], images: ["ambit"] });
  const script = commands();
  assert.match(script, /ambit install [^]*ambit enroll [^]*ambit waypoint [^]*ambit uninstall /);
  const shell = spawn("bash", ["-c", `set -e; set -v\n${script}`], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      AMBIT_LAB: "",
      KUBECONFIG: cluster.kubeconfig,
      PATH: [join(ROOT, "cli/bin"), dirname(await program("kubectl")), process.env["PATH"]].join(
        ":",
      ),
    },
  });
  const [stdout, stderr] = await Promise.all([
    text(shell.stdout),
    text(shell.stderr),
    once(shell, "close"),
  ]);
  assert.equal(shell.exitCode, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^namespace\/shop enrolled \(4 pods captured\)$/m);
  assert.match(stdout, /^server-waypoint +default +all +True +1\/1 /m);
  const { stdout: left } = await cluster.api.kubectl(["get", "namespaces,crds", "-o", "name"]);
  assert.doesNotMatch(left, /istio/);
});
