#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Functions of tests/fresh_machine.sh and tests/packages.sh: fresh Debian systems in directories.
#
# Commands run in separate mount, pid, ipc and uts namespaces, whose root is set with pivot_root.
# They share the network and the cgroups of this machine. Sourced, with $me, the name for messages,
# and $logs, a directory, set.
set -euo pipefail
: "${me:?}" "${logs:?}"

die() {
  echo "$me: $*" >&2
  exit 1
}

# as_root_alone DIRECTORY: fails unless root runs this and no other run uses DIRECTORY.
as_root_alone() {
  ((EUID == 0)) || die "not running as root; run 'sudo tests/$me.sh'"
  command -v debootstrap >/dev/null || die "debootstrap is not installed; run tests/install-deps.sh"
  mkdir -p "$1" "$logs"
  exec {lock}<"$1"
  flock -n "$lock" || die "another run uses $1"
}

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
# not enough: in a chroot the kernel refuses to create user namespaces. The directories of this
# machine in $MACHINE_BINDS, "FROM:TO" each, are at TO.
enter() {
  local root=$1 bind
  shift
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys" # with the cgroup hierarchies that this machine has
  mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
  mkdir -m 1777 "$root/run/lock"
  for bind in ${MACHINE_BINDS:-}; do
    mkdir -p "$root/${bind#*:}"
    mount --bind "${bind%%:*}" "$root/${bind#*:}"
  done
  hostname fresh
  cd "$root" || exit
  pivot_root . .
  umount -l .
  cd /
  first "$@"
}
export -f first enter

# as ROOT USER LINE: runs LINE in that user's shell with the environment of a login.
as() {
  local home=/home/$2 path=/usr/local/bin:/usr/bin:/bin
  [[ $2 != root ]] || home=/root path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  isolated enter "$1" setpriv --reuid="$2" --regid="$2" --init-groups \
    env -i HOME="$home" USER="$2" LOGNAME="$2" SHELL=/bin/bash LANG=C.UTF-8 \
    PATH="$path" bash -c "cd && $3"
}

# Ends what isolated() runs. Its child is signaled: unshare itself blocks SIGTERM.
end_isolated() {
  [[ -n $child ]] || return 0
  xargs -r kill -TERM 2>/dev/null <"/proc/$child/task/$child/children" || true
  wait "$child" || true
}

# --- the system ---

# Prints "URI SUITE COMPONENT" for each part of the release, with the mirrors of this machine.
sources() {
  # shellcheck disable=SC2016 # apt expands them
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    grep -E "^https?://[^ ]+ $1(-updates|-security)? main$" | sort -u
}

# debian RELEASE ROOT PACKAGE...: a minimal Debian of this release with these packages. Packages of
# the base system are kept in $MACHINE_DEBS, if that is set.
debian() {
  local release=$1 root=$2 mirror=http://deb.debian.org/debian parts settings proxy
  shift 2
  if parts=$(sources "$release") && grep -q " $release main$" <<<"$parts"; then
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
  echo "installing Debian $release from $mirror ..."
  isolated first debootstrap --variant=minbase ${1:+"--include=$(IFS=,; echo "$*")"} \
    ${MACHINE_DEBS:+"--cache-dir=$MACHINE_DEBS"} "$release" "$root" "$mirror" \
    >"$logs/debootstrap.log" 2>&1 || {
    tail -n 30 "$logs/debootstrap.log" >&2
    die "debootstrap failed; see $logs/debootstrap.log"
  }
  echo "deb ${parts//$'\n'/$'\n'deb }" >"$root/etc/apt/sources.list"
  echo "$settings" >"$root/etc/apt/apt.conf.d/90mirror"
  echo fresh >"$root/etc/hostname"
  printf '127.0.0.1 localhost fresh\n::1 localhost\n' >"$root/etc/hosts"
}
