// Completion as a shell does it: the printed script is loaded, a line is typed, Tab is pressed. bash always; zsh and
// fish where they are installed.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { loadConfig } from "../program.ts";
import { ambit } from "../testdata/run-command.ts";
import { testLab } from "../testdata/test-lab.ts";
import { completionModel } from "./model.ts";
import { ARGUMENT_SOURCES, FLAG_SOURCES, SHELLS, type Shell } from "./values.ts";

const LAUNCHER = join(import.meta.dirname, "..", "bin", "ambit");

/** Load the script, complete `$LINE`, print one candidate a line. */
const DRIVERS: Readonly<Record<Shell, readonly string[]>> = {
  bash: [
    "bash",
    "--norc",
    "-c",
    `source "$SCRIPT"; COMP_LINE=$LINE; COMP_POINT=\${#LINE}; COMP_WORDS=("$LAUNCHER"); compopt() { echo files; }
     _ambit; printf '%s\\n' "\${COMPREPLY[@]}"`,
  ],
  zsh: [
    "zsh",
    "-f",
    "-c",
    `compdef() {}; compset() { cur=\${cur#*=}; }; _files() { echo files; }
     _describe() { local w; for w in "\${(@P)4}"; do w=\${w%%:*}; [[ $w == $cur* ]] && print -r -- "$w"; done; }
     source "$SCRIPT"; words=("\${(@s: :)LINE}"); words[1]=$LAUNCHER; CURRENT=$#words; _ambit`,
  ],
  fish: ["fish", "--no-config", "-c", `source "$SCRIPT"; complete -C "$LINE"`],
};
const has = (shell: Shell): boolean => spawnSync(shell, ["--version"]).status === 0;
const scripts = mkdtempSync(join(tmpdir(), "ambit-completion-"));
before(async () => {
  for (const shell of SHELLS)
    writeFileSync(join(scripts, shell), (await ambit(`completion ${shell}`)).stdout);
});
after(() => rmSync(scripts, { recursive: true }));

function complete(shell: Shell, line: string, labDir = "/nonexistent"): string[] {
  const [file = "", ...args] = DRIVERS[shell];
  const started = performance.now();
  const env = {
    ...process.env,
    LINE: line,
    LAUNCHER,
    AMBIT_LAB: labDir,
    SCRIPT: join(scripts, shell),
  };
  // fish finds the program by the line's first word
  const path = `${join(LAUNCHER, "..")}:${process.env["PATH"] ?? ""}`;
  const ran = spawnSync(file, args, {
    env: { ...env, PATH: path },
    encoding: "utf8",
    timeout: 10_000,
  });
  assert.equal(ran.stderr, "", `${shell}: ${line}`);
  const took = performance.now() - started;
  assert.ok(took < 2_000, `${shell}: ${line} took ${took} ms`);
  return ran.stdout
    .split("\n")
    .map((l) => l.split("\t")[0]?.trim() ?? "")
    .filter((l) => l !== "")
    .sort();
}

/** A lab with two namespaces, as files only. */
async function shop(): Promise<Awaited<ReturnType<typeof testLab>>> {
  const lab = await testLab(["a", "b"]);
  for (const file of [
    "namespaces/_cluster/shop",
    "namespaces/_cluster/street",
    "pods/shop/client",
    "pods/shop/server-v1",
    "pods/street/stranger",
    "services/shop/server",
  ]) {
    mkdirSync(join(lab.manifestDir, file, ".."), { recursive: true });
    writeFileSync(join(lab.manifestDir, `${file}.yaml`), "");
  }
  return lab;
}

const CASES: readonly (readonly [line: string, ...want: string[]])[] = [
  ["ambit ex", "explain"],
  ["ambit lab ", "down", "exec", "run", "status", "up"],
  ["ambit zc w", "workload"],
  ["ambit -n shop tunnels w", "watch"],
  ["ambit lab up --fam", "--families"],
  ["ambit lab up --families ", "dual", "ipv4", "ipv6"],
  ["ambit get pods -o ya", "yaml"],
  ["ambit explain connection pod/x --wh", "--what-if"],
  ["ambit completion ", "bash", "fish", "zsh"],
  ["ambit zc log --level d", "debug"],
  ["ambit get zzz"],
  ["ambit get authorizationp", "authorizationpolicies"],
  ["ambit get pods -n s", "shop", "street"],
  ["ambit get pods -n shop ", "client", "server-v1"],
  ["ambit explain connection c", "client.shop"],
  ["ambit explain connection -n shop c", "client"],
  ["ambit explain connection client.shop svc/", "svc/server.shop"],
  ["ambit zc connections --node ", "a", "b"],
  ["ambit lab exec shop/", "shop/client", "shop/server-v1"],
  ["ambit enroll ns/st", "ns/street"],
  ["ambit unenroll -n shop pod/c", "pod/client"],
  ["ambit tunnels --from svc/", "svc/server.shop"],
];

for (const shell of SHELLS)
  for (const [line, ...want] of CASES)
    test(`${shell}: ${line}<Tab>`, { skip: !has(shell) && `no ${shell} here` }, async () => {
      await using lab = await shop();
      assert.deepEqual(complete(shell, line, lab.dir), want);
    });

test("bash: a value after = and a : in the word", async () => {
  await using lab = await shop();
  assert.deepEqual(complete("bash", "ambit tunnels --output=js", lab.dir), ["json"]);
  assert.deepEqual(complete("bash", "ambit apply -f x:y --dr", lab.dir), ["--dry-run"]);
});

test("zsh: a value after =", { skip: !has("zsh") && "no zsh here" }, async () => {
  assert.deepEqual(complete("zsh", "ambit tunnels --output=js"), ["json"]);
});

test("fish: a value after =", { skip: !has("fish") && "no fish here" }, async () => {
  assert.deepEqual(complete("fish", "ambit tunnels --output=js"), ["--output=json"]);
});

test("bash: files where a flag takes one, and behind --", async () => {
  assert.deepEqual(complete("bash", "ambit apply -f "), ["files"]);
  assert.deepEqual(complete("bash", "ambit lab exec shop/client -- c"), ["files"]);
});

test("without a lab names are missing, and nothing is said", async () => {
  assert.deepEqual(complete("bash", "ambit get pods -n "), []);
  assert.deepEqual(complete("bash", "ambit explain connection "), []);
});

test("--lab on the line says whose names", async () => {
  await using lab = await shop();
  assert.deepEqual(complete("bash", `ambit get pods --lab ${lab.dir} -n st`), ["street"]);
});

test("names come in less than a second", async () => {
  await using lab = await shop();
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const began = performance.now();
    const ran = spawnSync(LAUNCHER, ["__complete", "pods", "shop"], {
      env: { ...process.env, AMBIT_LAB: lab.dir },
      encoding: "utf8",
    });
    times.push(performance.now() - began);
    assert.deepEqual([ran.stdout, ran.stderr, ran.status], ["client\nserver-v1\n", "", 0]);
  }
  // The fastest: others may be busy on this machine.
  assert.ok(Math.min(...times) < 1000, `${times.map(Math.round).join(", ")} ms`);
});

test("names never lead out of the manifest directory", async () => {
  await using lab = await shop();
  for (const [what, ns, kind] of [
    ["objects", "../pods/shop", "pods"],
    ["objects", "shop", "../manifests/pods"],
    ["nothing", "", ""],
  ] as const) {
    const env = { ...process.env, AMBIT_LAB: lab.dir };
    const ran = spawnSync(LAUNCHER, ["__complete", what, ns, kind], { env, encoding: "utf8" });
    assert.deepEqual([ran.stdout, ran.stderr, ran.status], ["", "", 0]);
  }
});

test("every argument of every command, and no other, has a source", async () => {
  const { commands } = await loadConfig();
  const shown = commands.filter((c) => c.hidden !== true);
  const withArguments = shown.filter((c) => Object.keys(c.args).length > 0).map((c) => c.id);
  assert.deepEqual(Object.keys(ARGUMENT_SOURCES).sort(), withArguments.sort());
  const flags = new Set(shown.flatMap((c) => Object.keys(c.flags)));
  for (const name of Object.keys(FLAG_SOURCES)) assert.ok(flags.has(name), `no flag --${name}`);
});

test("the model knows what oclif knows: every command, every flag", async () => {
  const config = await loadConfig();
  const { places, globalFlags } = completionModel(config);
  for (const c of config.commands.filter((command) => command.hidden !== true)) {
    const place = places.find((p) => p.path === c.id.replaceAll(":", " "));
    const known = new Set([...(place?.flags ?? []), ...globalFlags].flatMap((f) => f.names));
    for (const name of Object.keys(c.flags)) assert.ok(known.has(`--${name}`), `${c.id} --${name}`);
  }
});
