// What the documents name exists: files, links, make targets, commands with their flags, reasons, ports.
// The README's tour itself is run by test/integration/readme.test.ts.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { PORT } from "#lib/net/ports.ts";
import { NAMESPACE_CHECKS } from "../cli/check/namespace.ts";
import { POST_CHECKS } from "../cli/check/post.ts";
import { PRE_CHECKS } from "../cli/check/pre.ts";
import { COMMANDS } from "../cli/commands.ts";

const ROOT = resolve(import.meta.dirname, "..");
const SKIPPED = new Set(["node_modules", ".git", "build", "coverage"]);
/** A folder's README stays on two screens. */
const ROOM_LINES = 60;

function* filesBelow(dir: string, suffix: string): Generator<string> {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (SKIPPED.has(entry.name)) continue;
    const path = join(dir, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path, suffix);
    else if (entry.name.endsWith(suffix)) yield path;
  }
}

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const docs = [...filesBelow(ROOT, ".md")].map((path) => ({
  path: relative(ROOT, path),
  dir: dirname(path),
  text: readFileSync(path, "utf8"),
}));
const makefile = read("Makefile");
const targets = [...makefile.matchAll(/^([a-z-]+):/gm)].map(([, name]) => name ?? "");

/** Code spans and the lines of shell blocks: where a reader takes a command from. */
function* codeOf(text: string): Generator<string> {
  for (const [, block = ""] of text.matchAll(/^```sh\n([^]*?)^```$/gm)) yield* block.split("\n");
  for (const [, span = ""] of text.replace(/^```[^]*?^```$/gm, "").matchAll(/`([^`\n]+)`/g))
    yield span;
}

test("every make target has a line in `make help`, which is what `make` alone prints", () => {
  const help = execFileSync("make", ["-s"], { cwd: ROOT, encoding: "utf8" });
  const phony = /^\.PHONY: (.*)$/m.exec(makefile)?.[1]?.split(" ") ?? [];
  assert.deepEqual(phony, targets);
  for (const target of phony)
    assert.match(help, new RegExp(`^ +${target} +\\S`, "m"), `make help does not list ${target}`);
});

for (const { path, dir, text } of docs) {
  test(`${path}: links lead somewhere`, () => {
    for (const [, link = "", anchor = ""] of text.matchAll(/\]\(([^)#\s]*)#?([^)\s]*)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const file = link === "" ? join(ROOT, path) : join(dir, link);
      assert.ok(existsSync(file), `${link} does not exist`);
      if (anchor !== "")
        assert.ok(anchorsOf(readFileSync(file, "utf8")).has(anchor), `${link} has no #${anchor}`);
    }
  });

  test(`${path}: files it names exist`, () => {
    for (const code of codeOf(text))
      for (const [file] of code.matchAll(
        /(?<![\w<>*./-])(?:[\w.-]+\/)+[\w.-]+\.(?:ts|sh|md|mjs)\b/g,
      ))
        if (!isUpstream(text, file))
          assert.ok(
            [ROOT, dir, dirname(dir)].some((base) => existsSync(join(base, file))),
            `${file} does not exist`,
          );
  });

  test(`${path}: make targets it names exist`, () => {
    for (const code of codeOf(text))
      for (const [, target = ""] of code.matchAll(/^make ([a-z-]+)/g))
        assert.ok(targets.includes(target), `make ${target} does not exist`);
  });

  test(`${path}: commands and flags it names exist`, () => {
    for (const code of codeOf(text)) {
      const line = /^(?:cli\/bin\/)?ambit ([^#|>&]*)/.exec(code)?.[1];
      if (line !== undefined) checkCommand(line);
    }
  });

  if (path.endsWith("/README.md"))
    test(`${path}: at most ${ROOM_LINES} lines`, () => {
      assert.ok(text.split("\n").length <= ROOM_LINES + 1);
    });
}

/** Of headings, as GitHub makes them. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => heading);
  return new Set(
    headings.map((h) =>
      h
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

/** Istio's sources are named like ours; such names stand in a paragraph that says so. */
function isUpstream(text: string, file: string): boolean {
  const paragraph = text.split(/\n\n/).find((p) => p.includes(file)) ?? "";
  return /istio\/|upstream|contract/i.test(paragraph) && !existsSync(join(ROOT, file));
}

/** @param line what follows `ambit`; programs after `--` are their own business */
function checkCommand(line: string): void {
  const words = (line.split(" -- ")[0] ?? "").trim().split(/\s+/);
  if (words[0] === "zc") words[0] = "ztunnel-config";
  const two = `${words[0]}:${words[1] ?? ""}`;
  const topic = Object.keys(COMMANDS).some((id) => id.startsWith(`${words[0]}:`));
  const command = COMMANDS[two] ?? COMMANDS[words[0] ?? ""];
  if (command === undefined) {
    const isWhole = words.length === 1 || words[1] === "…";
    assert.ok((topic && isWhole) || words[0]?.startsWith("-"), `ambit ${line}: no such command`);
    return;
  }
  const flags = { ...command.baseFlags, ...command.flags };
  const known = new Set(["--help", "-h", ...Object.keys(flags).map((name) => `--${name}`)]);
  for (const [name, flag] of Object.entries(flags)) {
    if (flag.char !== undefined) known.add(`-${flag.char}`);
    if (flag.type === "boolean" && flag.allowNo === true) known.add(`--no-${name}`);
  }
  for (const word of words)
    if (/^--?[a-z]/i.test(word))
      assert.ok(known.has(word.split("=")[0] ?? ""), `ambit ${line}: no flag ${word}`);
}

/** Sources of the programs as a reader of their messages sees them: joined texts, and `…` for what varies. */
function shownTexts(): string {
  const files = [...PROGRAMS.flatMap((dir) => [...filesBelow(join(ROOT, dir), ".ts")])]
    .filter((file) => !/\.(?:test|gen)\.ts$/.test(file))
    .map((file) => readFileSync(file, "utf8"));
  let text = files.join("\n").replace(/["`] \+\n\s*["`]/g, "");
  for (let before = ""; before !== text; ) {
    before = text;
    text = text.replace(/\$\{[^{}]*\}/g, "…"); // the innermost first
  }
  return text;
}

const PROGRAMS = "cli cni istiod lab lib manifests test/kube waypoint ztunnel".split(" ");
const TROUBLE = "docs/troubleshooting.md";
const troubleHeadings = [...read(TROUBLE).matchAll(/^### `(.*)`$/gm)].map(([, text = ""]) => text);

test(`${TROUBLE}: every heading in code is a message that is printed`, () => {
  const shown = shownTexts();
  assert.ok(troubleHeadings.length > 50);
  // at either end a part that varies says nothing about the words
  const isPrinted = (text: string): boolean => shown.includes(text.replace(/^… ?|:? ?…$/g, ""));
  assert.deepEqual(
    troubleHeadings.filter((text) => !isPrinted(text)),
    [],
  );
});

test(`${TROUBLE}: every reason that a log line can give has a heading`, () => {
  const union = /export type Reason =([^;]*);/.exec(read("lib/model/tunnel.ts"))?.[1] ?? "";
  const sources = shownTexts();
  for (const [, reason = ""] of union.matchAll(/"(\w+)"/g))
    if (sources.split(`"${reason}"`).length > 2)
      // once in the union itself
      assert.ok(troubleHeadings.includes(reason), `${reason} has no heading`);
});

test(`${TROUBLE}: every check has a row, in order`, () => {
  const rows = [...read(TROUBLE).matchAll(/^\| (C\d\d) \|/gm)].map(([, id]) => id);
  const checks = [...PRE_CHECKS, ...POST_CHECKS, ...NAMESPACE_CHECKS].map(({ id }) => id);
  assert.deepEqual(rows, checks);
});

test("README.md lists the ports", () => {
  const { socks5, ...used } = PORT;
  assert.ok(socks5 > 0); // reserved, not served yet
  for (const port of Object.values(used))
    assert.match(read("README.md"), new RegExp(`\\b${port}\\b`));
});

test("the lock file names the packages of every platform, without which `npm ci` refuses it", () => {
  const lock = JSON.parse(read("package-lock.json")) as {
    readonly packages: Readonly<
      Record<string, { readonly optionalDependencies?: Readonly<Record<string, string>> }>
    >;
  };
  for (const { optionalDependencies = {} } of Object.values(lock.packages))
    for (const name of Object.keys(optionalDependencies))
      assert.ok(lock.packages[`node_modules/${name}`] !== undefined, `${name} is not locked`);
});
