#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the README's two commands on a fresh Debian 12: a debootstrapped root with only sudo and git
# added, a user who may use sudo, and a clone of the last commit of this repository. Exits 0 only if
# both commands do.
#
#   sudo tests/fresh_machine.sh [ARGUMENT of tests/run.sh]...
#
# tests/machine.sh describes how the commands are separated from this machine. The root takes about
# 5 GB below build/fresh-machine and is removed at the end, also after a failure or a signal. Logs are
# kept in build/logs/fresh-machine.
#
# The clone has the path of this tree, so that the caches of the compiler and of tests/tidy.py serve,
# which are shared with this machine. With TRIREME_FRESH_CACHE=none everything is compiled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
exec </dev/null

me=fresh_machine release=bookworm user=admin
tree=$PWD
[[ $tree != /root/* ]] || tree=/home/$user/trireme # the user cannot enter /root
scratch=$PWD/build/fresh-machine
root=$scratch/root
logs=$PWD/build/logs/fresh-machine
# shellcheck source=tests/machine.sh
source tests/machine.sh
for argument; do
  [[ $argument != --long ]] || die "--long is not supported here: it would run this script again"
done
as_root_alone "$scratch"
if [[ ${TRIREME_FRESH_CACHE:-} != none ]]; then
  binds=()
  for cache in ccache trireme-tidy; do
    [[ ! -d ${XDG_CACHE_HOME:-$HOME/.cache}/$cache ]] ||
      binds+=("${XDG_CACHE_HOME:-$HOME/.cache}/$cache:root/.cache/$cache")
  done
  export MACHINE_BINDS="${binds[*]}"
fi

# --- the end ---

remove_root() {
  if [[ -x $root/usr/bin/python3 && -d $root$tree ]]; then
    # Cgroups are shared with this machine. A test that was killed leaves cgroups and their journal.
    as "$root" root "cd ${tree@Q} && python3 -B -c 'from tests.system import undo; undo.sweep()'"
  fi
  rm -rf --one-file-system "$root"
}

end() {
  local rc=$?
  trap '' INT TERM HUP
  set +e
  end_isolated
  cp -r "$root$tree/build/"{quickstart.log,logs/.} "$logs" 2>/dev/null
  remove_root
  exit "$rc"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
remove_root # of an earlier run that was killed

# --- the machine ---

debian "$release" "$root" sudo git
echo "$user ALL=(ALL:ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
as "$root" root "/usr/sbin/useradd --create-home --shell /bin/bash $user"

git bundle create --quiet "$root/home/$user/trireme.bundle" HEAD
mkdir -p "$root$tree"
as "$root" root "chown $user: ${tree@Q}"
as "$root" "$user" "git -c advice.detachedHead=false clone --quiet trireme.bundle ${tree@Q}"
printf 'commit %s' "$(git log -1 --format='%h %s')"
[[ -z $(git status --porcelain) ]] && echo || echo '; uncommitted changes are not included'

# --- the two commands ---

failed=0
# type_line LINE: runs LINE as the user would.
type_line() {
  local began=$SECONDS rc=0
  printf '\n%s$ %s\n' "$user" "$1"
  as "$root" "$user" "cd ${tree@Q} && exec $1" || rc=$?
  printf '=> exit code %d after %d s\n' "$rc" "$((SECONDS - began))"
  ((rc == 0)) || failed=1
}
type_line 'sudo examples/quickstart.sh'
type_line "sudo tests/run.sh${*:+ ${*@Q}}"
((failed == 0))
