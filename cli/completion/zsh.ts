// `ambit completion zsh`.
import type { CompletionModel } from "./model.ts";
import { posixTables } from "./posix-tables.ts";

export function zshScript(model: CompletionModel): string {
  return `#compdef ambit
# zsh completion for ambit, made by \`ambit completion zsh\`.

${posixTables(model)}

${DRIVER}`;
}

// Works from a directory of $fpath, where zsh runs the file as the function, and from \`source <(...)\`.
const DRIVER = `_ambit() {
  local _ambit_path= _ambit_flag= _ambit_source= _ambit_args=0 _ambit_kind= _ambit_ns= _ambit_lab= _ambit_over=
  local _ambit_bin=\${~words[1]} cur=\${words[CURRENT]} line word
  local -a described
  _ambit_scan "\${(@)words[2,CURRENT-1]}"
  if [[ -z $_ambit_flag && -z $_ambit_over && $cur == --*=* ]]; then
    _ambit_flag=\${cur%%=*}
    compset -P '*='
  fi
  for line in "\${(@f)$(_ambit_candidates "$cur")}"; do
    if [[ $line == files ]]; then
      _files
      return
    fi
    word=\${line%%$'\\t'*}
    [[ -z $word ]] && continue
    if [[ $line == *$'\\t'* ]]; then
      described+=("\${word//:/\\\\:}:\${line#*$'\\t'}")
    else
      described+=("\${word//:/\\\\:}")
    fi
  done
  _describe -t ambit ambit described
}

if [[ \${funcstack[1]} == _ambit ]]; then
  _ambit "$@"
else
  compdef _ambit ambit
fi
`;
