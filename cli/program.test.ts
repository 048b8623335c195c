// The program as a whole: every command's help, JSON in every outcome, exit codes, and the real process.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { COMMANDS } from "./commands.ts";
import { globalFlags } from "./flags.ts";
import { ambit } from "./testdata/run-command.ts";
import { testLab } from "./testdata/test-lab.ts";

const LAUNCHER = join(import.meta.dirname, "bin", "ambit");
const HELP = join(import.meta.dirname, "testdata", "help.txt");
const WORDS = Object.keys(COMMANDS).map((id) => id.replaceAll(":", " "));

test("help of every command is as reviewed (AMBIT_UPDATE_SNAPSHOTS=1 rewrites it)", async () => {
  let all = "";
  const topics = [
    "describe",
    "lab",
    "manifest",
    "namespace",
    "tunnels",
    "waypoint",
    "ztunnel-config",
  ];
  for (const words of ["", ...topics, ...WORDS]) {
    const { code, stdout, stderr } = await ambit(`${words} --help`);
    assert.equal(code, 0, `${words}: ${stderr}`);
    all += `===== ambit ${words}\n${stdout}\n`;
  }
  if (process.env["AMBIT_UPDATE_SNAPSHOTS"] === "1") writeFileSync(HELP, all);
  assert.equal(all, readFileSync(HELP, "utf8"));
});

test("every command has a summary, two examples, and the global flags", () => {
  for (const [id, command] of Object.entries(COMMANDS)) {
    assert.match(command.summary ?? "", /^[A-Z].*\.$/, id);
    const examples = command.examples ?? [];
    assert.ok(examples.length >= 2, `${id} has ${examples.length} examples`);
    for (const flag of Object.keys(globalFlags))
      assert.ok(flag in (command.baseFlags ?? {}), `${id} --${flag}`);
  }
});

test("stdin is no argument: a command in a loop or a pipe leaves it alone", async () => {
  for (const [id, { args = {} }] of Object.entries(COMMANDS))
    for (const [name, arg] of Object.entries(args))
      assert.equal(arg.ignoreStdin, true, `${id} ${name}`);
  const mesh = join(import.meta.dirname, "testdata", "mesh.json");
  const command = `echo nobody | "${LAUNCHER}" zc workload -f "${mesh}" -o name | head -1`;
  const ran = await spawned("bash", ["-c", command], "/");
  assert.deepEqual([ran.stdout, ran.stderr], ["workload/cart.edge\n", ""]);
});

// A line per command that works without a lab, and one that fails: both must be nothing but JSON on stdout.
const OUTCOMES: readonly (readonly [line: string, code: number])[] = [
  ["apply -f %events.ndjson", 1],
  ["apply", 2],
  ["bug-report --kubeconfig %no-such-file", 6],
  ["check --kubeconfig %no-such-file", 6],
  ["check --fail-on nothing", 2],
  ["delete", 2],
  ["demo --nope", 2],
  ["describe namespace shop", 6],
  ["describe node a", 6],
  ["describe pod x", 6],
  ["describe service x", 6],
  ["describe pod", 2],
  ["enroll ns/shop", 6],
  ["enroll", 2],
  ["explain connection client.shop svc/server -f %mesh.json", 0],
  ["explain connection legacy.shop svc/server -f %mesh.json", 3],
  ["explain connection nobody svc/server -f %mesh.json", 4],
  ["explain connection client.shop", 2],
  ["get pods", 6],
  ["get podz", 2],
  ["label ns shop a=b", 6],
  ["completion bash", 0],
  ["completion csh", 2],
  ["explain connection client.shop svc/server --what-if %mesh.json -f %mesh.json", 2],
  ["explain connection client.shop svc/server --what-if", 2],
  ["label ns shop", 2],
  ["install --kubeconfig %no-such-file", 6],
  ["install --set nonsense", 2],
  ["lab down", 6],
  ["lab exec shop/client -- true", 6],
  ["lab exec shop/client", 2],
  ["lab run x --node a", 6],
  ["lab run x", 2],
  ["lab status", 6],
  ["lab up --nodes A", 2],
  ["manifest diff --kubeconfig %no-such-file", 6],
  ["manifest generate", 0],
  ["manifest generate --profile nothing", 2],
  ["namespace list", 6],
  ["proxy-status --kubeconfig %no-such-file", 6],
  ["status --kubeconfig %no-such-file", 6],
  ["tunnels -f %tunnels.json", 0],
  ["tunnels", 6],
  ["tunnels list --stale x", 2],
  ["tunnels watch --limit 0", 2],
  ["unenroll pod/x", 6],
  ["uninstall --kubeconfig %no-such-file", 6],
  ["version", 0],
  ["version --client", 0],
  ["version -f %mesh.json", 0],
  ["version -f %no-such-file", 1],
  ["waypoint apply", 6],
  ["waypoint apply --service-account a --enroll-namespace", 2],
  ["waypoint delete", 2],
  ["waypoint delete w", 6],
  ["waypoint generate", 0],
  ["waypoint list", 6],
  ["waypoint status", 6],
  ["zc all -f %mesh.json", 0],
  ["zc certificate -f %mesh.json", 0],
  ["zc connections -f %mesh.json", 0],
  ["zc policy -f %mesh.json", 0],
  ["zc service -f %mesh.json", 0],
  ["zc workload -f %mesh.json", 0],
  ["zc log", 6],
  ["zc log --level loud", 2],
  ["zc workload --address 1.2.3 -f %mesh.json", 2],
  ["zc workload --kubeconfig %no-such-file", 6],
  ["zc nothing", 2],
  ["nothing", 2],
];

for (const [line, code] of OUTCOMES)
  test(`-o json of \`${line}\` is JSON and exits ${code}`, async () => {
    const [before = "", after] = line.split(/(?= -- )/);
    const ran = await ambit(`${before} -o json${after ?? ""}`);
    assert.equal(ran.code, code, ran.stderr + ran.stdout);
    const document = JSON.parse(ran.stdout) as Record<string, unknown>;
    if (code === 0 || code === 3) return assert.notEqual(document["kind"], "Error");
    assert.deepEqual(Object.keys(document), [
      "apiVersion",
      "kind",
      "code",
      "message",
      "exitCode",
      "hints",
    ]);
    assert.equal(document["kind"], "Error");
    assert.equal(document["exitCode"], code);
    assert.ok(
      !/ at .*\.(ts|js)|node_modules/.test(ran.stdout),
      "no stack, no paths of this program",
    );
  });

test("every list command prints YAML and names as well", async () => {
  for (const line of OUTCOMES.filter(([l, code]) => code === 0 && !l.startsWith("version"))) {
    const yaml = await ambit(`${line[0]} -o yaml`);
    if (!line[0].includes("generate"))
      assert.match(yaml.stdout, /^apiVersion: ambit\/v1\nkind: /, line[0]);
    const names = await ambit(`${line[0]} -o name`);
    for (const name of names.stdout.trim().split("\n"))
      assert.match(name, /^[a-z0-9.]+\/\S+$/, line[0]);
  }
});

test("istioctl's exit codes replace ours when asked for", async () => {
  const env = { AMBIT_ISTIOCTL_EXIT_CODES: "1" };
  assert.equal((await ambit("zc nothing", { env })).code, 64);
  const denied = "explain connection legacy.shop svc/server -f %mesh.json";
  assert.equal((await ambit(denied, { env })).code, 79);
  assert.equal((await ambit(denied)).code, 3);
});

test("mistakes name the thing, what is near, and what to do", async () => {
  await using lab = await testLab();
  for (const [line, ...wanted] of [
    ["tunnles", "No such command: ambit tunnles", "did you mean tunnels?"],
    ["zc wrkload", "ambit ztunnel-config wrkload", "did you mean ztunnel-config workload?"],
    ["tunnels --frm x", "Unknown flag: --frm", "did you mean --from?"],
    ["tunnels -o jsno", '--output: No such output format: "jsno"', "did you mean json?"],
    ["tunnels --timeout 5", "--timeout: Not a duration", "500ms, 15s"],
    ["get podz", 'No such kind: "podz"', "did you mean pod or pods?"],
    ["enroll shop", 'What is "shop"?', "ns/shop, pod/shop or deploy/shop"],
    ["apply", "Missing: --file", "--help shows the usage"],
    ["zc log --level", "Flag --level expects a value", "--help shows the usage"],
    ["completion fihs", 'No completion for "fihs"', "did you mean fish?"],
    ["label ns shop _=b", 'Not a label key: "_"'],
    ["zc workload --lab x --context y", "--lab means a lab, and --context a Kubernetes cluster"],
    ["install --lab x", "ambit install needs a Kubernetes cluster, not a lab"],
    ["install --profile kidn", 'No such profile: "kidn"', "did you mean kind?"],
    ["install --set imgae=x", '--set knows no "imgae"', "did you mean image?"],
    ["waypoint apply --name none", "A waypoint cannot be called none"],
    ["waypoint apply --for everything", "Expected --for=everything"],
  ] as const) {
    const ran = await lab.run(line);
    assert.equal(ran.code, 2, `${line}: ${ran.stderr}`);
    assert.equal(ran.stdout, "", line);
    for (const part of wanted) assert.ok(ran.stderr.includes(part), `${line}: ${ran.stderr}`);
  }
});

test("help follows the short words of commands, and says nothing of flags that take several values", async () => {
  const short = await ambit("help zc log");
  assert.deepEqual([short.code, short.stdout], [0, (await ambit("zc log --help")).stdout]);
  const { stderr } = await ambit("explain connection");
  assert.match(stderr, /^error: Missing 2 required args:\n {2}source /);
  assert.doesNotMatch(stderr, /Note:|Alternatively/);
});

test("global flags may stand before the command", async () => {
  const before = await ambit("-n shop -o name zc workload -f %mesh.json");
  assert.equal(before.stdout, (await ambit("zc workload -f %mesh.json -n shop -o name")).stdout);
});

test("--verbose adds the causes to stderr, and stdout stays JSON", async () => {
  const ran = await ambit("zc workload -f %no-such-file -v -o json");
  JSON.parse(ran.stdout);
  assert.match(ran.stderr, /caused by: Error: ENOENT/);
});

test("the launcher works through a symbolic link and from any directory", {
  timeout: 20_000,
}, async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ambit-cli-"));
  const link = join(dir.path, "ambit");
  symlinkSync(LAUNCHER, link);
  const ran = await spawned(link, ["version", "--client", "-s"], dir.path);
  assert.deepEqual([ran.code, ran.stderr], [0, ""]);
  assert.match(ran.stdout, /^\d+\.\d+\.\d+\n$/);
});

test("a reader that leaves early is no failure", { timeout: 20_000 }, async () => {
  const mesh = join(import.meta.dirname, "testdata", "mesh.json");
  const command = `"${LAUNCHER}" zc all -f "${mesh}" -o json | head -1; echo "$\{PIPESTATUS[0]}"`;
  const ran = await spawned("bash", ["-c", command], "/");
  assert.deepEqual([ran.stdout, ran.stderr], ["{\n0\n", ""]);
});

test("help loads nothing that only some commands need", { timeout: 20_000 }, async (t) => {
  const hook = `import { registerHooks } from "node:module";
    const urls = [];
    registerHooks({ load(url, context, next) { urls.push(url); return next(url, context); } });
    process.on("exit", () => console.error(urls.join("\\n")));`;
  const node = [`--import=data:text/javascript,${encodeURIComponent(hook)}`];
  const run = join(import.meta.dirname, "bin", "run.ts");
  const ran = await spawned(process.execPath, [...node, run, "--help"], "/");
  assert.match(ran.stderr, /cli\/commands\/get\.ts/); // the hook saw what was loaded
  for (const slow of [
    "lib/kube/api-server/",
    "node_modules/pino/",
    "cli/check/",
    "cli/describe/",
    "node_modules/yaml/",
    "lib/model/tables.ts",
    "lab/client.ts",
    "directory-cluster.ts",
  ])
    assert.ok(!ran.stderr.includes(slow), slow);

  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    const start = performance.now();
    await spawned(LAUNCHER, ["--help"], "/");
    times.push(performance.now() - start);
  }
  t.diagnostic(`ambit --help: ${Math.min(...times).toFixed(0)} ms, best of ${times.length}`);
});

test("SIGINT ends a watch, and a command that reads stdin, with 130", {
  timeout: 20_000,
}, async (t) => {
  let asked = (): void => undefined;
  await using lab = await testLab(["a"], (_, response) => {
    response.flushHeaders();
    asked();
  });
  const options = { env: { ...process.env, AMBIT_LAB: lab.dir } };
  const watching = new Promise<void>((resolve) => (asked = resolve));
  const watch = spawn(LAUNCHER, ["tunnels", "watch"], options);
  t.after(() => watch.kill("SIGKILL"));
  await watching;
  watch.kill("SIGINT");
  assert.equal(await new Promise((resolve) => watch.once("exit", resolve)), 130);

  const apply = spawn(LAUNCHER, ["apply", "-f", "-"], options);
  t.after(() => apply.kill("SIGKILL"));
  // More than a pipe holds: taken once the command reads.
  await new Promise((resolve) => apply.stdin.write(" ".repeat(1 << 20), resolve));
  apply.kill("SIGINT");
  assert.equal(await new Promise((resolve) => apply.once("exit", resolve)), 130);
});

async function spawned(
  file: string,
  args: readonly string[],
  cwd: string,
): Promise<{ readonly code: unknown; readonly stdout: string; readonly stderr: string }> {
  const child = spawn(file, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  const [code, stdout, stderr] = await Promise.all([
    new Promise((resolve) => child.once("exit", resolve)),
    text(child.stdout),
    text(child.stderr),
  ]);
  return { code, stdout, stderr };
}
