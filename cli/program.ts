// From words to an exit code: finds the command, runs it, prints help, and reports every failure once.
import { readFileSync } from "node:fs";
import { once } from "node:events";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Config } from "@oclif/core/config";
import { getHelpFlagAdditions, normalizeArgv } from "@oclif/core/help";
import type { PJSON } from "@oclif/core/interfaces";
import { settings } from "@oclif/core/settings";
import { KubeError } from "#lib/kube/errors.ts";
import { LabError } from "../lab/errors.ts";
import type { AmbitCommand } from "./command.ts";
import { CliError, EXIT, exitStatus } from "./errors.ts";
import { explainParseError } from "./parse-error.ts";
import type { Io } from "./io.ts";
import { fromKubeError } from "./kube/kube-failure.ts";
import { AmbitHelp } from "./render/help.ts";
import { API_VERSION, renderJson, wantsJson } from "./render/output.ts";
import { didYouMean } from "./suggest.ts";

const ROOT = resolve(import.meta.dirname, "..");

/** Short first words, replaced before anything else looks at the line. */
const WORD_ALIASES: Readonly<Record<string, string>> = { zc: "ztunnel-config", ps: "proxy-status" };

/** Global flags that take a value, so that they may stand before the command as kubectl allows. */
const VALUE_FLAGS = new Set(["-n", "--namespace", "-i", "--istio-namespace", "-o", "--output"]);
for (const name of ["--timeout", "--lab", "-c", "--context", "--kubeconfig", "--as", "--as-group"])
  VALUE_FLAGS.add(name);

const HELP_WIDTH = 100;

const OCLIF: PJSON["oclif"] = {
  bin: "ambit",
  dirname: "ambit",
  topicSeparator: " ",
  commands: { strategy: "explicit", target: "./cli/commands.ts", identifier: "COMMANDS" },
  topics: {
    describe: { description: "One object and what the mesh makes of it, in one screen" },
    explain: { description: "Ask what the mesh would decide, and why" },
    lab: { description: "A mesh on this machine, in network namespaces" },
    manifest: { description: "What ambit install applies" },
    namespace: { description: "Namespaces and their part in the mesh" },
    tunnels: { description: "Live connections of the mesh" },
    waypoint: {
      description: "Waypoints: proxies in front of services, which decide at layer 4 so far",
    },
    "ztunnel-config": {
      description: "What the ztunnels hold (short: zc), with istioctl's columns",
    },
  },
  helpOptions: {
    flagSortOrder: "none",
    hideAliasesFromRoot: true,
    hideCommandSummaryInDescription: true,
    maxWidth: HELP_WIDTH,
  },
} as PJSON["oclif"];

/** Runs one command line. Never throws; the number is the exit status. */
export async function runAmbit(argv: readonly string[], io: Io): Promise<number> {
  try {
    return exitStatus(await dispatch(argv, io), io.env);
  } catch (error) {
    return exitStatus(await report(toCliError(error, io), argv, io), io.env);
  }
}

export async function loadConfig(): Promise<Config> {
  settings.enableAutoTranspile = false; // Node strips the types; oclif must not look for a compiler
  const pkg = JSON.parse(readFileSync(resolve(ROOT, "package.json"), "utf8")) as PJSON;
  const pjson = { ...pkg, oclif: OCLIF };
  const config = new Config({ root: ROOT, pjson, ignoreManifest: true, userPlugins: false });
  await config.load();
  return config;
}

async function dispatch(argv: readonly string[], io: Io): Promise<number> {
  const config = await loadConfig();
  const words = commandFirst(argv);
  if (words[0] === "--version") words.splice(0, 1, "version", "--client");
  if (words[0] === "help") return await help(commandFirst(words.slice(1)), config, io);
  if (words.length === 0 || asksForHelp(words, config)) return await help(words, config, io);

  const [id = "", ...rest] = normalizeArgv(config, words);
  const found = config.findCommand(id);
  if (found === undefined) {
    if (config.findTopic(id) !== undefined) return await help(words, config, io);
    throw unknownCommand(id, config);
  }
  // oclif types every command alike; commands.ts lists none but ours.
  const Found = (await found.load()) as unknown as new (
    argv: string[],
    config: Config,
  ) => AmbitCommand;
  const command = new Found(rest, config);
  command.io = io;
  return await Promise.race([command.run(), interrupted(io.signal)]);
}

/** A command that does not unwind by itself is left behind after this long. */
const UNWIND_MS = 2_000;

/** Rejects some time after `signal` aborts; never settles otherwise. */
async function interrupted(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, "abort");
  await sleep(UNWIND_MS);
  throw new CliError("INTERRUPTED", "Interrupted");
}

async function help(words: readonly string[], config: Config, io: Io): Promise<number> {
  const topic = words.filter((w) => !w.startsWith("-"));
  if (topic.length > 0) {
    const [id = ""] = normalizeArgv(config, [...topic]);
    if (config.findCommand(id) === undefined && config.findTopic(id) === undefined)
      throw unknownCommand(id, config);
  }
  const isPlain = !io.stdoutIsTty || words.includes("--no-color") || Boolean(io.env["NO_COLOR"]);
  const options = { ...OCLIF.helpOptions, maxWidth: HELP_WIDTH, stripAnsi: isPlain };
  await io.out(await new AmbitHelp(config, options).text(topic));
  return EXIT.ok;
}

function asksForHelp(words: readonly string[], config: Config): boolean {
  const flags = [...getHelpFlagAdditions(config), "-h"];
  const end = words.indexOf("--");
  return words.slice(0, end < 0 ? words.length : end).some((w) => flags.includes(w));
}

/** Moves leading global flags behind the command and resolves short first words. */
function commandFirst(argv: readonly string[]): string[] {
  let at = 0;
  while (at < argv.length && argv[at]?.startsWith("-") === true && argv[at] !== "--") {
    if (["--version", "--help", "-h"].includes(argv[at] ?? "")) break;
    at += VALUE_FLAGS.has(argv[at] ?? "") ? 2 : 1;
  }
  const words = [...argv.slice(at), ...argv.slice(0, at)];
  const alias = WORD_ALIASES[words[0] ?? ""];
  return alias === undefined ? words : [alias, ...words.slice(1)];
}

function unknownCommand(id: string, config: Config): CliError {
  const typed = id.replaceAll(":", " ");
  const known = config.commands.filter((c) => c.hidden !== true).map((c) => c.id);
  const prefix = id.split(":").slice(0, -1).join(":");
  const siblings = known.filter((k) => k.startsWith(`${prefix}:`));
  const names = [...known, ...known.flatMap((k) => k.split(":")[0] ?? [])];
  return new CliError("UNKNOWN_COMMAND", `No such command: ambit ${typed}`, [
    ...didYouMean(
      typed,
      names.map((n) => n.replaceAll(":", " ")),
    ),
    ...(prefix !== "" && siblings.length > 0
      ? [
          `ambit ${prefix.replaceAll(":", " ")} has: ${siblings.map((s) => s.slice(prefix.length + 1)).join(", ")}`,
        ]
      : []),
    "ambit --help lists the commands",
  ]);
}

function toCliError(error: unknown, io: Io): CliError {
  const parse = explainParseError(error);
  if (parse !== null) return parse;
  if (error instanceof CliError) return error;
  if (io.signal.aborted) return new CliError("INTERRUPTED", "Interrupted", [], error);
  if (error instanceof KubeError) return fromKubeError(error);
  if (error instanceof LabError) return fromLabError(error);
  const message = error instanceof Error ? error.message : String(error);
  return new CliError("FAILED", message, [], error);
}

function fromLabError(error: LabError): CliError {
  switch (error.code) {
    case "NOT_FOUND":
      return new CliError(
        "NOT_FOUND",
        error.message,
        ["ambit lab status lists what there is"],
        error,
      );
    case "CONFLICT":
      return new CliError("CONFLICT", error.message, ["ambit lab down ends a running lab"], error);
    case "MISSING_PROGRAM":
      return new CliError(
        "FAILED",
        error.message,
        ["make deps installs what the lab needs"],
        error,
      );
    case "NO_SANDBOX":
    case "COMMAND":
    case "CNI":
    case "NOT_READY":
    case "UNSUPPORTED":
    case "CONTROL":
      return new CliError("FAILED", error.message, [], error);
    default:
      return error.code satisfies never;
  }
}

async function report(error: CliError, argv: readonly string[], io: Io): Promise<number> {
  const { code, message, exitCode, hints } = error;
  if (wantsJson(argv))
    await io.out(
      renderJson({ apiVersion: API_VERSION, kind: "Error", code, message, exitCode, hints }),
    );
  else {
    io.err(`error: ${message}`);
    for (const hint of hints) io.err(`  ${hint}`);
  }
  if (argv.includes("-v") || argv.includes("--verbose")) {
    for (let cause = error.cause; cause instanceof Error; cause = cause.cause)
      io.err(`caused by: ${cause.stack ?? cause.message}`);
  }
  return exitCode;
}
