// What a shell can complete after `ambit`: commands, flags and where their values come from, read from oclif's own
// metadata of the commands, so that a new command or flag is there by itself.
import type { Config } from "@oclif/core/config";
import type { Command } from "@oclif/core/command";
import { ARGUMENT_SOURCES, FLAG_SOURCES, type Source } from "./values.ts";

export interface CompletionWord {
  readonly word: string;
  readonly summary: string;
}

export interface CompletionFlag {
  /** `--output`, `-o`, aliases. */
  readonly names: readonly string[];
  readonly summary: string;
  /** `null` for a switch. */
  readonly value: Source | null;
  readonly isHidden: boolean;
}

/** A place on the command line: the words of a command or a topic, "" for the beginning. */
export interface CompletionPlace {
  readonly path: string;
  readonly next: readonly CompletionWord[];
  readonly flags: readonly CompletionFlag[];
  readonly args: readonly Source[];
  /** Takes any number of arguments of the last kind. */
  readonly repeats: boolean;
}

export interface CompletionModel {
  readonly places: readonly CompletionPlace[];
  /** Understood at every place. */
  readonly globalFlags: readonly CompletionFlag[];
}

export function completionModel(config: Config): CompletionModel {
  const commands = config.commands.filter((c) => c.hidden !== true);
  const summaries = new Map(config.topics.map((t) => [words(t.name), t.description ?? ""]));
  for (const c of commands) summaries.set(words(c.id), c.summary ?? "");
  const byPath = new Map(commands.map((c) => [words(c.id), c]));
  const paths = new Set(["", ...[...summaries.keys()].flatMap(prefixes)]);
  const own = (c: Command.Loadable): CompletionFlag[] =>
    flagsOf(c)
      .filter((f) => !isGlobal(f, c))
      .map(toFlag);
  const [first] = commands;
  return {
    places: [...paths].sort().map((path) => {
      const command = byPath.get(path);
      return {
        path,
        next: [...paths]
          .filter((p) => p !== "" && parentOf(p) === path)
          .sort()
          .map((p) => ({
            word: p.slice(path === "" ? 0 : path.length + 1),
            summary: summaries.get(p) ?? "",
          })),
        flags: command === undefined ? [] : own(command),
        args: ARGUMENT_SOURCES[command?.id ?? ""] ?? [],
        repeats: command !== undefined && !command.strict,
      };
    }),
    globalFlags:
      first === undefined
        ? []
        : flagsOf(first)
            .filter((f) => isGlobal(f, first))
            .map(toFlag),
  };
}

/** The flags to offer: the long and the short name of each, or its first alias. */
export function shownFlags(flags: readonly CompletionFlag[]): CompletionWord[] {
  return flags
    .filter((f) => !f.isHidden)
    .flatMap(({ names, summary }) => names.slice(0, 2).map((word) => ({ word, summary })));
}

type FlagData = Command.Flag.Cached;

function flagsOf(command: Command.Loadable): FlagData[] {
  return Object.values(command.flags);
}

/** Those of `globalFlags`: shown in a group of their own, or hidden as another tool's. */
function isGlobal(flag: FlagData, command: Command.Loadable): boolean {
  return (
    Object.hasOwn(command.baseFlags ?? {}, flag.name) ||
    flag.helpGroup === "GLOBAL" ||
    flag.hidden === true
  );
}

function toFlag(flag: FlagData): CompletionFlag {
  const { name, char, aliases = [], summary = "", hidden } = flag;
  return {
    names: [
      `--${name}`,
      ...(char === undefined ? [] : [`-${char}`]),
      ...aliases.map((a) => `--${a}`),
    ],
    summary,
    value: flag.type === "boolean" ? null : valueOf(flag),
    isHidden: hidden === true,
  };
}

function valueOf(flag: Extract<FlagData, { type: "option" }>): Source {
  if (flag.options !== undefined) return { kind: "words", words: flag.options };
  return FLAG_SOURCES[flag.name] ?? { kind: "free" };
}

const words = (id: string): string => id.replaceAll(":", " ");
const parentOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf(" ")));

/** `a b c` → `a`, `a b`, `a b c`. */
function prefixes(path: string): string[] {
  const parts = path.split(" ");
  return parts.map((_, i) => parts.slice(0, i + 1).join(" "));
}
