// The part of the completion script that bash and zsh share: the tables, and the walk over the words so far.
import {
  shownFlags,
  type CompletionFlag,
  type CompletionModel,
  type CompletionPlace,
  type CompletionWord,
} from "./model.ts";
import type { Source } from "./values.ts";

/** Functions by the caller's `local` variables `_ambit_{path,flag,source,args,kind,ns,lab,bin,over}`. */
export function posixTables(model: CompletionModel): string {
  const { places, globalFlags } = model;
  const known = places.filter((p) => p.path !== "").map((p) => quote(p.path));
  return `# Is this a command, or the beginning of one?
_ambit_known() {
  case $1 in
    ${known.join(" | \\\n    ")}) return 0 ;;
  esac
  return 1
}

# What may follow these words: <word> <tab> <summary>.
${printer(
  "_ambit_next",
  places.flatMap((p) => row(p, p.next)),
)}

# Flags after these words.
${printer(
  "_ambit_flags",
  places.flatMap((p) => row(p, shownFlags(p.flags))),
  lines(shownFlags(globalFlags)),
)}

# Where the value of a flag comes from; fails for a switch.
${chooser("_ambit_value", [
  ...places.flatMap((p) => p.flags.flatMap((f) => valueRow(`${p.path} `, f))),
  ...globalFlags.flatMap((f) => valueRow(null, f)),
])}

# Where the argument of this number comes from.
${chooser("_ambit_arg", places.flatMap(argumentRows))}

${WALK}`;
}

function row({ path }: CompletionPlace, pairs: readonly CompletionWord[]): string[] {
  return pairs.length === 0 ? [] : [`    ${quote(path)})\n${lines(pairs, "      ")} ;;`];
}

function lines(pairs: readonly CompletionWord[], indent = "  "): string {
  return `${indent}printf '%s\\n' ${pairs.map(({ word, summary }) => quote(`${word}\t${summary}`)).join(` \\\n${indent}  `)}`;
}

function valueRow(prefix: string | null, { names, value }: CompletionFlag): string[] {
  if (value === null) return [];
  const patterns = names.map((n) =>
    prefix === null ? `*${quote(` ${n}`)}` : quote(`${prefix}${n}`),
  );
  return [`    ${patterns.join(" | ")}) _ambit_source=${quote(sourceText(value))} ;;`];
}

function argumentRows({ path, args, repeats }: CompletionPlace): string[] {
  const last = args.length - 1;
  return args.flatMap((source, i) => {
    if (source.kind === "free") return [];
    const pattern = i === last && repeats ? `${quote(`${path} `)}*` : quote(`${path} ${i}`);
    return [`    ${pattern}) _ambit_source=${quote(sourceText(source))} ;;`];
  });
}

function sourceText(source: Source): string {
  switch (source.kind) {
    case "words":
      return `words ${source.words.join(" ")}`;
    case "names":
      return `names ${source.of}`;
    case "files":
    case "free":
      return source.kind;
    default:
      return source satisfies never;
  }
}

function printer(name: string, rows: readonly string[], then = ""): string {
  return `${name}() {\n  case $1 in\n${rows.join("\n")}\n  esac\n${then === "" ? "" : `${then}\n`}}`;
}

function chooser(name: string, rows: readonly string[]): string {
  return `${name}() {\n  case "$1 $2" in\n${rows.join("\n")}\n    *) return 1 ;;\n  esac\n}`;
}

const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const WALK = `# Reads the words before the cursor.
_ambit_scan() {
  local word place
  for word in "$@"; do
    if [ -n "$_ambit_flag" ]; then
      _ambit_note "$_ambit_flag" "$word"
      _ambit_flag=
      continue
    fi
    case $word in
      --) _ambit_over=1; return ;;
      --*=*) _ambit_note "\${word%%=*}" "\${word#*=}" ;;
      -*) if _ambit_value "$_ambit_path" "$word"; then _ambit_flag=$word; fi ;;
      *)
        if [ -z "$_ambit_path" ] && [ "$word" = zc ]; then word=ztunnel-config; fi
        place=\${_ambit_path:+$_ambit_path }$word
        if [ "$_ambit_args" = 0 ] && _ambit_known "$place"; then
          _ambit_path=$place
        else
          if [ "$_ambit_args" = 0 ]; then _ambit_kind=$word; fi
          _ambit_args=$((_ambit_args + 1))
        fi
        ;;
    esac
  done
}

_ambit_note() {
  case $1 in
    -n | --namespace) _ambit_ns=$2 ;;
    --lab) _ambit_lab=$2 ;;
  esac
}

# Prints what fits the place, before it is compared with the word under the cursor ($1).
_ambit_candidates() {
  if [ -n "$_ambit_over" ]; then
    echo files
  elif [ -n "$_ambit_flag" ]; then
    _ambit_value "$_ambit_path" "$_ambit_flag" && _ambit_from "$_ambit_source"
  else
    case $1 in
      -*) _ambit_flags "$_ambit_path" ;;
      *)
        if [ "$_ambit_args" = 0 ]; then _ambit_next "$_ambit_path"; fi
        if _ambit_arg "$_ambit_path" "$_ambit_args"; then _ambit_from "$_ambit_source"; fi
        ;;
    esac
  fi
}

_ambit_from() {
  case $1 in
    words\\ *) printf '%s\\n' "\${1#words }" | tr ' ' '\\n' ;;
    names\\ *)
      AMBIT_LAB=\${_ambit_lab:-$AMBIT_LAB} "$_ambit_bin" __complete \\
        "\${1#names }" "$_ambit_ns" "$_ambit_kind" 2>/dev/null
      ;;
    files) echo files ;;
  esac
}`;
