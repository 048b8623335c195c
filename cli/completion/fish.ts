// `ambit completion fish`: the tables of posix-tables.ts in fish's own words.
import {
  shownFlags,
  type CompletionFlag,
  type CompletionModel,
  type CompletionPlace,
  type CompletionWord,
} from "./model.ts";
import type { Source } from "./values.ts";

export function fishScript({ places, globalFlags }: CompletionModel): string {
  const next = places.map((p): Row => [[p.path], print(p.next)]);
  const flags = places.map((p): Row => [[p.path], print(shownFlags(p.flags))]);
  const values = [
    ...places.flatMap((p) => p.flags.flatMap((f) => valueRow(`${p.path} `, f))),
    ...globalFlags.flatMap((f) => valueRow("* ", f)),
  ];
  const known = places.filter((p) => p.path !== "").map((p) => p.path);
  return `# fish completion for ambit, made by \`ambit completion fish\`.

set -g __ambit_known ${known.map(quote).join(" \\\n    ")}

# What may follow these words.
${switchFunction("__ambit_next", '"$argv[1]"', next)}

# Flags after these words.
${switchFunction("__ambit_flags", '"$argv[1]"', flags, print(shownFlags(globalFlags)))}

# Where the value of a flag comes from; fails for a switch.
${switchFunction("__ambit_value", '"$argv[1] $argv[2]"', values, "", true)}

# Where the argument of this number comes from.
${switchFunction("__ambit_arg", '"$argv[1] $argv[2]"', places.flatMap(argumentRows), "", true)}

${DRIVER}`;
}

/** Patterns, and the command they lead to; without one, nothing is written. */
type Row = readonly [patterns: readonly string[], body: string];

function print(pairs: readonly CompletionWord[]): string {
  const words = pairs.map(({ word, summary }) => `${quote(word)}\\t${quote(summary)}`);
  return words.length === 0 ? "" : `printf '%s\\n' ${words.join(" \\\n            ")}`;
}

function valueRow(prefix: string, { names, value }: CompletionFlag): Row[] {
  return value === null ? [] : [[names.map((n) => `${prefix}${n}`), from(value)]];
}

function argumentRows({ path, args, repeats }: CompletionPlace): Row[] {
  const last = args.length - 1;
  return args.flatMap((source, i): Row[] =>
    source.kind === "free" ? [] : [[[`${path} ${i === last && repeats ? "*" : i}`], from(source)]],
  );
}

function from(source: Source): string {
  switch (source.kind) {
    case "words":
      return `printf '%s\\n' ${source.words.map(quote).join(" ")}`;
    case "names":
      return `__ambit_names ${source.of}`;
    case "files":
      return "__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' '')";
    case "free":
      return "true";
    default:
      return source satisfies never;
  }
}

function switchFunction(
  name: string,
  word: string,
  rows: readonly Row[],
  then = "",
  fails = false,
): string {
  const cases = rows
    .filter(([, body]) => body !== "")
    .map(
      ([patterns, body]) => `        case ${patterns.map(quote).join(" ")}\n            ${body}`,
    );
  const other = fails ? "\n        case '*'\n            return 1" : "";
  const tail = then === "" ? "" : `    ${then}\n`;
  return `function ${name}\n    switch ${word}\n${cases.join("\n")}${other}\n    end\n${tail}end`;
}

const quote = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

const DRIVER = `function __ambit_names
    set -l lab $__ambit_lab
    test -n "$lab"; or set lab $AMBIT_LAB
    AMBIT_LAB="$lab" $__ambit_bin __complete $argv[1] "$__ambit_ns" "$__ambit_kind" 2>/dev/null
end

function __ambit_note
    switch $argv[1]
        case -n --namespace
            set -g __ambit_ns $argv[2]
        case --lab
            set -g __ambit_lab $argv[2]
    end
end

function __ambit_complete
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    set -g __ambit_bin (string replace -r '^~/' "$HOME/" -- $words[1])
    set -e words[1]
    set -g __ambit_ns ''
    set -g __ambit_lab ''
    set -g __ambit_kind ''
    set -l path ''
    set -l flag ''
    set -l args 0
    for word in $words
        if test -n "$flag"
            __ambit_note $flag $word
            set flag ''
            continue
        end
        switch $word
            case --
                __fish_complete_path $cur
                return
            case '--*=*'
                __ambit_note (string split -m 1 = -- $word)
            case '-*'
                __ambit_value "$path" $word >/dev/null; and set flag $word
            case '*'
                test -z "$path" -a "$word" = zc; and set word ztunnel-config
                set -l place (string trim -- "$path $word")
                if test $args = 0; and contains -- $place $__ambit_known
                    set path $place
                else
                    test $args = 0; and set -g __ambit_kind $word
                    set args (math $args + 1)
                end
        end
    end
    if test -n "$flag"
        __ambit_value "$path" $flag
    else if string match -q -- '--*=*' $cur
        set -l parts (string split -m 1 = -- $cur)
        for value in (__ambit_value "$path" $parts[1])
            echo $parts[1]=$value
        end
    else if string match -q -- '-*' $cur
        __ambit_flags "$path"
    else
        test $args = 0; and __ambit_next "$path"
        __ambit_arg "$path" $args
    end
end

complete -c ambit -e
complete -c ambit -f -a '(__ambit_complete)'
`;
