// `ambit completion bash`.
import type { CompletionModel } from "./model.ts";
import { posixTables } from "./posix-tables.ts";

export function bashScript(model: CompletionModel): string {
  return `# bash completion for ambit, made by \`ambit completion bash\`.

${posixTables(model)}

${DRIVER}`;
}

// bash splits words at : and =, which are part of ours: words are read from the line itself, and what bash takes for
// done is cut off the answers again.
const DRIVER = `_ambit() {
  local _ambit_path= _ambit_flag= _ambit_source= _ambit_args=0 _ambit_kind= _ambit_ns= _ambit_lab= _ambit_over=
  local _ambit_bin=\${COMP_WORDS[0]/#~\\//$HOME/}
  local line=\${COMP_LINE:0:COMP_POINT} cur= done= word words
  read -ra words <<<"$line"
  if [[ $line != *[[:space:]] ]]; then
    cur=\${words[\${#words[@]} - 1]}
    unset "words[\${#words[@]} - 1]"
  fi
  _ambit_scan "\${words[@]:1}"
  if [[ $_ambit_flag == "" && $_ambit_over == "" && $cur == --*=* ]]; then
    _ambit_flag=\${cur%%=*}
    cur=\${cur#*=}
  fi
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then done=\${cur%"\${cur##*:}"}; fi
  COMPREPLY=()
  while IFS= read -r word; do
    if [[ $word == files ]]; then
      compopt -o default 2>/dev/null
      COMPREPLY=()
      return
    fi
    word=\${word%%$'\\t'*}
    if [[ $word == "$cur"* ]]; then COMPREPLY+=("\${word#"$done"}"); fi
  done < <(_ambit_candidates "$cur")
}
complete -F _ambit ambit
`;
