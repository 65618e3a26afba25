# SPDX-License-Identifier: Apache-2.0
# bash completion of trirectl(1)
_trirectl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words i
  # Words before the cursor, without the options that may precede a subcommand.
  local -a before=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      --json | =) ;;
      --runtime-dir | --config-dir)
        if [[ ${COMP_WORDS[i + 1]} == = ]]; then
          i=$((i + 1))
        fi
        i=$((i + 1))
        ;;
      *) before+=("${COMP_WORDS[i]}") ;;
    esac
  done
  local command=${before[0]} sub=${before[1]} place=$((${#before[@]} + 1))
  local common='--json --runtime-dir --config-dir --help' ends='--from --to --with --port --protocol --since'
  # readline splits words at '=' and ':', but a label is one word.
  if [[ $word == = ]]; then
    word=
  fi
  if ((COMP_CWORD > 2)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    local key=${COMP_WORDS[COMP_CWORD - 2]}
    mapfile -t COMPREPLY < <(compgen -W "$(trirectl words labels 2>/dev/null | sed -n "s/^$key=//p")" -- "$word")
    return
  fi
  case $previous in
    --config-dir | --runtime-dir | --out | check | diff | apply | init | issue) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --from | --to | --with)
      mapfile -t COMPREPLY < <(compgen -W "@host @world $(trirectl words workloads labels networks 2>/dev/null)" -- "$word")
      return
      ;;
    --verdict) mapfile -t COMPREPLY < <(compgen -W 'allow deny audit' -- "$word"); return ;;
    --protocol) mapfile -t COMPREPLY < <(compgen -W 'tcp udp icmp icmpv6' -- "$word"); return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W 'dot svg html json' -- "$word"); return ;;
    --port) mapfile -t COMPREPLY < <(compgen -W 'tcp/ udp/ icmp icmpv6' -- "$word"); return ;;
    --since) mapfile -t COMPREPLY < <(compgen -W '15m 1h 1d 7d' -- "$word"); return ;;
    --confirm) mapfile -t COMPREPLY < <(compgen -W '60s 5m' -- "$word"); return ;;
    --limit | -n | --name | --host | --labels | --days) return ;;
  esac
  if [[ $previous == convert ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
  fi
  case $place:$command in
    1:*) words="status workloads flows reload policy pki metrics flush --version $common" ;;
    2:policy) words="check test explain diff apply confirm history rollback suggest graph convert $common" ;;
    2:pki) words='init issue psk --json --help' ;;
    *:pki)
      if [[ $sub == psk && $word != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
      fi
      words='--json --help'
      case $sub in
        init) words+=' --name' ;;
        issue) words+=' --host --labels --days --out' ;;
      esac
      ;;
    *:flows) words="--follow --summary --live --verbose --limit --verdict $ends $common" ;;
    *:policy)
      words=$common
      case $sub in
        explain) words+=' --from --to --port' ;;
        apply) words+=' --confirm --yes' ;;
        suggest) words+=" --denied $ends" ;;
        graph) words+=' --format' ;;
        test)
          if [[ $word != -* ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
          fi
          ;;
      esac
      ;;
    *) words=$common ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _trirectl trirectl
