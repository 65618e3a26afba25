#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs missing packages, builds trireme, starts it, and shows which connections it refuses and
# which it allows. Afterwards, only the packages and build/release remain on the machine.
#
#   sudo examples/quickstart.sh
#   sudo bash /usr/share/doc/trireme/examples/quickstart.sh --installed
#
# With --installed it uses the programs of the installed package and the policy as it was shipped,
# and neither builds nor installs anything. It needs busybox, curl, ip, nft and the tools of procps.
#
# With systemd, trireme enforces policy on this host for about a minute, with transient scopes, and
# Docker is included if it runs. Without systemd, trireme runs in a network namespace of its own
# with plain cgroups.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

die() {
  echo "quickstart: $*" >&2
  exit 1
}
((EUID == 0)) || die "not running as root; run it with sudo"

policy=$PWD/etc/policy.toml
if [[ ${1:-} == --installed ]]; then
  policy=$PWD/examples/policy.toml # the administrator may have changed that of /etc/trireme
  for program in triremed trirectl trirun busybox curl ip nft; do
    command -v "$program" >/dev/null || die "'$program' is not installed"
  done
else
  tests/install-deps.sh --quickstart
  if command -v ccache >/dev/null; then export TRIREME_COMPILER_LAUNCHER=ccache; fi
  echo "building in build/release ..."
  mkdir -p build
  { cmake --preset release && cmake --build --preset release -j "$(nproc)"; } >build/quickstart.log 2>&1 || {
    tail -n 30 build/quickstart.log >&2
    die "the build failed; see build/quickstart.log"
  }
  export PATH="$PWD/build/release/src/daemon:$PWD/build/release/src/cli:$PATH"
fi

dir=$(mktemp -d /tmp/trireme-quickstart.XXXXXX)
unit=trireme-quickstart port=18080
pids=() containers=() image='' netns='' tree='' inside=() systemd=0 docker=0
mkdir "$dir/etc" "$dir/www" "$dir/run"
echo 'hello from nginx' >"$dir/www/index.html"

end() {
  local rc=$? pid
  set +e
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  ((${#containers[@]})) && docker rm -f "${containers[@]}" >/dev/null
  [[ -z $image ]] || docker image rm "$image" >/dev/null
  if ((systemd)); then
    systemctl stop "$unit" 2>/dev/null
  fi
  wait
  [[ -z ${TRIREME_RUNTIME_DIR:-} ]] || "${inside[@]}" trirectl flush >/dev/null
  if ((systemd)); then
    systemctl stop trireme.slice 2>/dev/null
    [[ -z ${TRIREME_RUNTIME_DIR:-} ]] || rm -rf "$TRIREME_RUNTIME_DIR"
  else
    [[ -z $tree ]] || rmdir "$tree"/trireme-*.slice/*.scope "$tree"/trireme-*.slice "$tree" 2>/dev/null
    [[ -z $netns ]] || ip netns delete "$netns"
  fi
  rm -rf "$dir"
  exit "$rc"
}
trap end EXIT
trap 'exit 130' INT TERM

mount_of_cgroup2() { awk '$(NF-2) == "cgroup2" && $4 == "/" { print $5; exit }' /proc/self/mountinfo; }

# Start the daemon with the shipped policy: workloads with equal label sets can talk.
cp "$policy" "$dir/etc/policy.toml"
if [[ -d /run/systemd/system ]]; then
  systemd=1
  export TRIREME_RUNTIME_DIR=/run/trireme
  [[ ! -S $TRIREME_RUNTIME_DIR/trireme.sock ]] || { unset TRIREME_RUNTIME_DIR; die "triremed is running; run 'systemctl stop trireme' first"; }
  ! nft list table inet trireme >/dev/null 2>&1 || { unset TRIREME_RUNTIME_DIR; die "table inet trireme exists already; run 'trirectl flush' first"; }
  if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    # The policy would also apply to host-network containers that already run here.
    if [[ -z $(docker ps -q --filter network=host) ]]; then docker=1; else echo "skipping Docker: host-network containers are running"; fi
  fi
  ((docker)) && printf '[docker]\ncontainers = "host-network"\n' >"$dir/etc/identity.toml" || printf '[docker]\ncontainers = "none"\n' >"$dir/etc/identity.toml"
  systemd-run --quiet --collect --unit="$unit" --service-type=notify "$(command -v triremed)" --config-dir "$dir/etc" --state-dir "$dir/state"
else
  netns=trireme-quickstart-$$
  ip netns add "$netns"
  # Use a separate cgroup tree: each tree can have one daemon, and the host may have one already.
  tree=$(mount_of_cgroup2)/trireme-quickstart-$$
  mkdir "$tree"
  # shellcheck disable=SC2016
  inside=(sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$tree" nsenter "--net=/run/netns/$netns" unshare --cgroup)
  "${inside[@]}" ip link set lo up
  export TRIREME_RUNTIME_DIR=$dir/run
  "${inside[@]}" triremed --config-dir "$dir/etc" --state-dir "$dir/state" --cgroup-driver cgroupfs --foreground 2>"$dir/log" &
  pids+=($!)
  for _ in $(seq 200); do
    "${inside[@]}" trirectl status >/dev/null 2>&1 && break
    kill -0 "${pids[0]}" 2>/dev/null || { cat "$dir/log" >&2; die "triremed exited"; }
    read -rt 0.05 <> <(:) || true
  done
fi

# show EXPECTED COMMAND...: runs COMMAND, prints the result, and fails if it is not EXPECTED
# (allowed or refused).
show() {
  local expected=$1 output rc=0
  shift
  printf '\n$ %s\n' "$*"
  output=$("${inside[@]}" "$@" 2>&1) || rc=$?
  printf '%s\n' "$output"
  if [[ $expected == allowed && $rc != 0 ]] || [[ $expected == refused && $rc == 0 ]]; then
    die "expected it to be $expected"
  fi
  printf '=> %s, as expected\n' "$expected"
}
# run COMMAND...: prints and runs COMMAND.
run() {
  printf '\n$ %s\n' "$*"
  "${inside[@]}" "$@"
}
# await_listener PORT: waits until a process listens on TCP port PORT.
await_listener() {
  local hex
  hex=$(printf ':%04X 0' "$1")
  for _ in $(seq 200); do
    "${inside[@]}" grep -q "$hex.* 0A " /proc/self/net/tcp /proc/self/net/tcp6 && return
    read -rt 0.05 <> <(:) || true
  done
  die "no process listens on port $1"
}

printf '\n$ trirun --label app=nginx --uid nobody -- busybox httpd -f -p %s &\n' "$port"
chmod 755 "$dir" "$dir/www"
"${inside[@]}" trirun --label app=nginx --uid nobody -- busybox httpd -f -p "$port" -h "$dir/www" &
pids+=($!)
await_listener "$port"
show refused curl -sS -m 3 "http://127.0.0.1:$port"
show allowed trirun --label app=nginx -- curl -sS -m 3 "http://127.0.0.1:$port"
show refused trirun --label app=other -- curl -sS -m 3 "http://127.0.0.1:$port"

if ((docker)); then
  image=trireme-quickstart
  mkdir -p "$dir/image/bin" "$dir/image/www"
  cp "$(command -v busybox)" "$dir/image/bin/busybox"
  ldd "$dir/image/bin/busybox" >/dev/null 2>&1 && die "busybox is not static: apt-get install busybox-static"
  cp "$dir/www/index.html" "$dir/image/www/"
  tar -C "$dir/image" -c . | docker import - "$image" >/dev/null
  printf '\n$ docker run -l app=nginx --net=host -d %s busybox httpd -f -p %s\n' "$image" "$((port + 1))"
  containers+=("$(docker run -l app=nginx --net=host -d "$image" /bin/busybox httpd -f -p "$((port + 1))" -h /www)")
  await_listener "$((port + 1))"
  show refused curl -sS -m 3 "http://127.0.0.1:$((port + 1))"
  show allowed trirun --label app=nginx -- curl -sS -m 3 "http://127.0.0.1:$((port + 1))"
fi

printf '\n$ cat >>policy.toml\n'
cat <<X | tee -a "$dir/etc/policy.toml"
[[allow]]
name = "this host's own processes"
from = "@host"
to   = "app=nginx"
ports = ["tcp/$port"]
X
run trirectl reload
show allowed curl -sS -m 3 "http://127.0.0.1:$port"
run trirectl workloads
run trirectl flows
printf '\nAll results were as expected. Next: README.md, "Install".\n'
