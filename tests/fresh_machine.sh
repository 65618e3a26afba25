#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the README's two commands on a fresh Debian 12: a debootstrapped root with only sudo and git
# added, a user who may use sudo, and a clone of the last commit of this repository. Exits 0 only if
# both commands do.
#
#   sudo tests/fresh_machine.sh [ARGUMENT of tests/run.sh]...
#
# The commands run in separate mount, pid, ipc and uts namespaces, whose root is set with
# pivot_root. They share the network and the cgroups of this machine. The root takes about 5 GB
# below build/fresh-machine and is removed at the end, also after a failure or a signal. Logs are
# kept in build/logs/fresh-machine.
#
# The clone has the path of this tree, so that the caches of the compiler and of tests/tidy.py serve,
# which are shared with this machine. With TRIREME_FRESH_CACHE=none everything is compiled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
exec </dev/null

die() {
  echo "fresh_machine: $*" >&2
  exit 1
}
for argument; do
  [[ $argument != --long ]] || die "--long is not supported here: it would run this script again"
done
((EUID == 0)) || die "not running as root; run 'sudo tests/fresh_machine.sh'"
command -v debootstrap >/dev/null || die "debootstrap is not installed; run tests/install-deps.sh"

release=bookworm user=admin
tree=$PWD
[[ $tree != /root/* ]] || tree=/home/$user/trireme # the user cannot enter /root
scratch=$PWD/build/fresh-machine
caches=${XDG_CACHE_HOME:-$HOME/.cache}
[[ ${TRIREME_FRESH_CACHE:-} != none ]] || caches=''
export caches
root=$scratch/root
logs=$PWD/build/logs/fresh-machine
mkdir -p "$scratch" "$logs"
exec {lock}<"$scratch"
flock -n "$lock" || die "another run uses $scratch"

# --- namespaces ---

child=''
# isolated FUNCTION ARGUMENT...: runs FUNCTION in a bash that is the first process of new
# namespaces. When that bash ends, all its mounts and processes end.
isolated() {
  local rc=0
  unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc -- \
    bash -euc '"$@"' bash "$@" {lock}<&- &
  child=$!
  wait "$child" || rc=$?
  child=''
  return "$rc"
}

# first COMMAND...: runs COMMAND as the first process of a pid namespace must: bash reaps orphaned
# processes, and SIGTERM is forwarded so that the command can clean up.
first() {
  local command='' rc=0
  trap '[[ -z $command ]] || kill -TERM "$command" 2>/dev/null || true' TERM
  setsid -- "$@" & # sudo does not forward signals from its own process group
  command=$!
  wait "$command" || rc=$?
  while kill -0 "$command" 2>/dev/null; do # a signal interrupted the wait
    rc=0
    wait "$command" || rc=$?
  done
  return "$rc"
}

# enter ROOT COMMAND...: makes ROOT the root of this mount namespace and runs COMMAND. A chroot is
# not enough: in a chroot the kernel refuses to create user namespaces.
enter() {
  local root=$1
  shift
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys" # with the cgroup hierarchies that this machine has
  mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
  mkdir -m 1777 "$root/run/lock"
  local cache
  for cache in ccache trireme-tidy; do
    [[ -n $caches && -d $caches/$cache ]] || continue
    mkdir -p "$root/root/.cache/$cache"
    mount --bind "$caches/$cache" "$root/root/.cache/$cache"
  done
  hostname fresh
  cd "$root"
  pivot_root . .
  umount -l .
  cd /
  first "$@"
}
export -f first enter

# as USER LINE: runs LINE in that user's shell with the environment of a login.
as() {
  local home=/home/$1
  [[ $1 != root ]] || home=/root
  isolated enter "$root" setpriv --reuid="$1" --regid="$1" --init-groups \
    env -i HOME="$home" USER="$1" LOGNAME="$1" SHELL=/bin/bash LANG=C.UTF-8 \
    PATH=/usr/local/bin:/usr/bin:/bin bash -c "cd && $2"
}

# --- the end ---

remove_root() {
  if [[ -x $root/usr/bin/python3 && -d $root$tree ]]; then
    # Cgroups are shared with this machine. A test that was killed leaves cgroups and their journal.
    as root "cd ${tree@Q} && python3 -B -c 'from tests.system import undo; undo.sweep()'"
  fi
  rm -rf --one-file-system "$root"
}

end() {
  local rc=$?
  trap '' INT TERM HUP
  set +e
  if [[ -n $child ]]; then
    # Signal its child: unshare itself blocks SIGTERM.
    xargs -r kill -TERM 2>/dev/null <"/proc/$child/task/$child/children"
    wait "$child"
  fi
  cp -r "$root$tree/build/"{quickstart.log,logs/.} "$logs" 2>/dev/null
  remove_root
  exit "$rc"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
remove_root # of an earlier run that was killed

# --- the machine ---

# Prints "URI SUITE COMPONENT" for each part of the release, with the mirrors of this machine.
sources() {
  # shellcheck disable=SC2016 # apt expands them
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    grep -E "^https?://[^ ]+ $release(-updates|-security)? main$" | sort -u
}
mirror=http://deb.debian.org/debian
if parts=$(sources) && grep -q " $release main$" <<<"$parts"; then
  mirror=$(sed -n "s/ $release main$//p;T;q" <<<"$parts")
else # this machine runs another release
  parts="$mirror $release main"$'\n'"$mirror-security $release-security main"
fi
settings=$(apt-config dump |
  grep -E '^Acquire::(https?::.*|Retries|Check-Valid-Until|Check-Date) ".+";$' || true)
proxy=$(sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p' <<<"$settings")
if [[ -n ${http_proxy:=$proxy} ]]; then
  export http_proxy # debootstrap's
  [[ -n $proxy ]] || settings+=$'\n'"Acquire::http::Proxy \"$http_proxy\";"
fi

echo "installing Debian 12 from $mirror ..."
isolated first debootstrap --variant=minbase --include=sudo,git "$release" "$root" "$mirror" \
  >"$logs/debootstrap.log" 2>&1 || {
  tail -n 30 "$logs/debootstrap.log" >&2
  die "debootstrap failed; see $logs/debootstrap.log"
}
echo "deb ${parts//$'\n'/$'\n'deb }" >"$root/etc/apt/sources.list"
echo "$settings" >"$root/etc/apt/apt.conf.d/90mirror"
echo fresh >"$root/etc/hostname"
printf '127.0.0.1 localhost fresh\n::1 localhost\n' >"$root/etc/hosts"
echo "$user ALL=(ALL:ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
as root "/usr/sbin/useradd --create-home --shell /bin/bash $user"

git bundle create --quiet "$root/home/$user/trireme.bundle" HEAD
mkdir -p "$root$tree"
as root "chown $user: ${tree@Q}"
as "$user" "git -c advice.detachedHead=false clone --quiet trireme.bundle ${tree@Q}"
printf 'commit %s' "$(git log -1 --format='%h %s')"
[[ -z $(git status --porcelain) ]] && echo || echo '; uncommitted changes are not included'

# --- the two commands ---

failed=0
# type_line LINE: runs LINE as the user would.
type_line() {
  local began=$SECONDS rc=0
  printf '\n%s$ %s\n' "$user" "$1"
  as "$user" "cd ${tree@Q} && exec $1" || rc=$?
  printf '=> exit code %d after %d s\n' "$rc" "$((SECONDS - began))"
  ((rc == 0)) || failed=1
}
type_line 'sudo examples/quickstart.sh'
type_line "sudo tests/run.sh${*:+ ${*@Q}}"
((failed == 0))
