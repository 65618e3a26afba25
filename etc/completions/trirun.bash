# SPDX-License-Identifier: Apache-2.0
# bash completion of trirun(1)
_trirun() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == -- ]]; then
      declare -F _command_offset >/dev/null && _command_offset $((i + 1))
      return
    fi
  done
  case $previous in
    --uid) mapfile -t COMPREPLY < <(compgen -u -- "$word") ;;
    --gid) mapfile -t COMPREPLY < <(compgen -g -- "$word") ;;
    --runtime-dir) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    -p | --property)
      mapfile -t COMPREPLY < <(compgen -S = -W 'Description CPUQuota CPUWeight MemoryMax MemoryHigh TasksMax RuntimeMaxSec IOWeight' -- "$word")
      compopt -o nospace
      ;;
    -l | --label | --unit | --slice) ;;
    *) mapfile -t COMPREPLY < <(compgen -c -W '--label --property --unit --slice --uid --gid --runtime-dir --help --version --' -- "$word") ;;
  esac
}
complete -F _trirun trirun
