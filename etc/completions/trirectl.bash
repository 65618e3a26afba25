# bash completion of trirectl(1)
_trirectl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} words
  case $previous in
    --config-dir | --runtime-dir | --out | check | init | issue) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --from | --to)
      words="@host @world $(trirectl workloads --json 2>/dev/null | grep -o '"name":"[^"]*"' | cut -d'"' -f4)"
      mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
      return
      ;;
  esac
  if [[ $previous == convert ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
  fi
  case $COMP_CWORD:$command in
    1:*) words='status workloads flows reload policy pki metrics flush --help --version' ;;
    2:policy) words='check test explain convert' ;;
    2:pki) words='init issue psk' ;;
    *:pki)
      if [[ ${COMP_WORDS[2]} == psk && $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
      fi
      words='--json --help'
      case ${COMP_WORDS[2]} in
        init) words+=' --name' ;;
        issue) words+=' --host --labels --days --out' ;;
      esac
      ;;
    *:flows) words='--follow --limit --json --runtime-dir --config-dir --help' ;;
    *:policy)
      words='--json --runtime-dir --config-dir --help'
      [[ ${COMP_WORDS[2]} != explain ]] || words+=' --from --to --port'
      ;;
    *) words='--json --runtime-dir --config-dir --help' ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _trirectl trirectl
