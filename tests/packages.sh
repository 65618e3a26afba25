#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the package on fresh Debian 12 and 13 systems that have only the build dependencies, checks
# it with lintian, installs it on fresh systems without a compiler, and runs the quick start there.
# Exits 0 only if all of it worked.
#
#   sudo tests/packages.sh [RELEASE]...        bookworm trixie by default
#
# It also runs the unit tests of the credentials on both, because mbedTLS differs, lets each accept
# the other's certificates, and builds the package of the last release in build/packages/previous:
# `tests/run.sh --packages` upgrades it under load.
#
# tests/machine.sh describes how the commands are separated from this machine. The roots take about
# 3 GB below build/packages and are removed at the end, also after a failure or a signal. Packages
# that were downloaded, the compiler's cache and the results stay in build/packages: a second run
# takes a quarter of the time. Logs are kept in build/logs/packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
exec </dev/null

me=packages scratch=$PWD/build/packages logs=$PWD/build/logs/packages
root=$scratch/root
# shellcheck source=tests/machine.sh
source tests/machine.sh
releases=("$@")
((${#releases[@]})) || releases=(bookworm trixie)
as_root_alone "$scratch"
# It would control the cgroups of the roots too, where no other daemon could start.
! nft list table inet trireme >/dev/null 2>&1 ||
  die "trireme is in force on this machine; run 'systemctl stop trireme && trirectl flush' first"
mkdir -p "$scratch"/{ccache,certificates,previous}
rm -f "$scratch"/certificates/* "$scratch"/previous/*.deb

remove_root() { rm -rf --one-file-system "$root"; }
end() {
  local rc=$?
  trap '' INT TERM HUP
  set +e
  end_isolated
  remove_root
  exit "$rc"
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# run NAME SECONDS LINE: runs LINE as root in the root, with its output in a log.
run() {
  local began=$SECONDS log=$logs/$release-$1.log
  printf '%s: %s ... ' "$release" "$1"
  as "$root" root "timeout --kill-after=30 $2 bash -euo pipefail -c ${3@Q}" >"$log" 2>&1 || {
    local rc=$?
    echo "FAILED ($rc)"
    tail -n 60 "$log" >&2
    die "$release: $1 failed; see $log"
  }
  echo "$((SECONDS - began)) s"
}

# A new root of $release.
fresh() {
  remove_root
  MACHINE_DEBS=$scratch/debs-$release
  mkdir -p "$MACHINE_DEBS"
  export MACHINE_BINDS="$MACHINE_DEBS:var/cache/apt/archives"
  debian "$release" "$root"
}

apt='DEBIAN_FRONTEND=noninteractive apt-get -qq'
# Binary packages of the tree in /root/$1, in /root/$1/build/release.
build_lines() {
  echo "cd /root/$1 && tests/install-deps.sh --build-only
    export TRIREME_COMPILER_LAUNCHER=ccache
    cmake --preset release -DTRIREME_SYSTEM_TESTS=OFF
    cmake --build --preset release -j $(nproc)
    cd build/release && cpack"
}

build() {
  fresh
  MACHINE_BINDS+=" $scratch/ccache:root/.cache/ccache"
  mkdir "$root/root/trireme"
  git archive HEAD | tar -x -C "$root/root/trireme"
  run build 1500 "$(build_lines trireme)"
  rm -f "$scratch/$release"/*.deb
  mkdir -p "$scratch/$release"
  cp "$root"/root/trireme/build/release/*.deb "$scratch/$release"
  run credentials 900 "cd /root/trireme
    export TRIREME_COMPILER_LAUNCHER=ccache
    cmake --preset dev
    cmake --build --preset dev -j $(nproc) --target trireme_unit_credentials
    build/dev/tests/unit/trireme_unit_credentials --gtest_brief=1"
  run certificates 60 "cd /root/trireme
    export PATH=\$PWD/build/release/src/cli:\$PATH
    trirectl pki init ca --name $release
    trirectl pki issue ca --host $release --out host"
  local each
  for each in host.pem host.key ca.pem; do
    cp "$root/root/trireme/host/$each" "$scratch/certificates/$release.$each"
  done
  run lintian 600 "$apt update && $apt install -y --no-install-recommends lintian
    lintian --allow-root --fail-on error --info /root/trireme/build/release/*.deb"
}

# The last release before this commit, which may be a release itself: its tag, or else the commit
# that added an entry to the package's changelog.
build_previous() {
  local commit
  commit=$(git describe --tags --abbrev=0 --match='v[0-9]*' HEAD^ 2>/dev/null ||
    git log -1 --format=%H HEAD^ -- etc/debian/changelog)
  [[ -n $commit ]] || die "the history of etc/debian/changelog is not in this clone"
  mkdir "$root/root/previous"
  git archive "$commit" | tar -x -C "$root/root/previous"
  run previous 1500 "$(build_lines previous)"
  cp "$root"/root/previous/build/release/*.deb "$scratch/previous"
}

# alone_lines LINE: runs LINE in a network namespace and a tree of cgroups of its own. A purge runs
# 'trirectl flush', which removes every table, program and record of the network and the cgroups
# that it sees: those of this machine, and of tests that run on it.
alone_lines() {
  cat <<'X'
own=$(mktemp -d "$(awk '$(NF-2) == "cgroup2" && $4 == "/" { print $5; exit }' \
      /proc/self/mountinfo)/trireme-packages.XXXXXX")
    trap 'rmdir "$own"' EXIT
X
  echo "    (echo 0 >\"\$own/cgroup.procs\" && exec unshare --net --cgroup bash -euc ${1@Q})"
}

try_out() {
  fresh
  cp "$scratch/$release"/*.deb "$root/root/"
  cp -r "$scratch/certificates" "$root/root/"
  run install 300 "$apt update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /root/*.deb 2>&1 |
      tee /root/said
    grep 'It starts at the next boot' /root/said
    test \"\$(systemctl is-enabled trireme)\" = enabled
    systemctl disable trireme
    test \"\$(systemctl is-enabled trireme)\" = disabled
    for compiler in cc c++ gcc g++ clang cmake; do if command -v \$compiler; then exit 1; fi; done
    $apt install -y --no-install-recommends busybox-static curl iproute2 nftables procps"
  # As README recommends before the first start; the quick start shows the policy as shipped.
  run quickstart 120 "sed -i 's/^mode = .*/mode = \"audit\"/' /etc/trireme/policy.toml
    grep -x 'mode = \"audit\"' /etc/trireme/policy.toml
    bash /usr/share/doc/trireme/examples/quickstart.sh --installed"
  # The certificates of each release, those of the other one included, are accepted.
  run accepted 60 "cd /root/certificates && for each in *.host.pem; do
      name=\${each%.host.pem}
      mkdir -p /root/etc-\$name
      cp /etc/trireme/policy.toml /root/etc-\$name
      cp \$name.host.pem \$name.host.key \$name.ca.pem /root/etc-\$name
      chmod 600 /root/etc-\$name/\$name.host.key
      printf '[trust]\ncertificate = \"%s.host.pem\"\nkey = \"%s.host.key\"\nca = [\"%s.ca.pem\"]\n' \
        \$name \$name \$name >/root/etc-\$name/identity.toml
      triremed --check --config-dir /root/etc-\$name
    done"
  run purge 120 "$(alone_lines "$apt purge -y trireme")
    test ! -e /etc/trireme && test ! -e /usr/sbin/triremed"
}

for release in "${releases[@]}"; do
  build
  [[ $release != bookworm ]] || build_previous
done
for release in "${releases[@]}"; do
  try_out
done
echo "packages:"
for release in "${releases[@]}"; do
  echo "$scratch/$release"/*.deb
done
