#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the packages that building trireme on Debian 12 or 13, and testing it on Debian 12, needs.
# Starts no service. Does nothing if they are all installed.
#
#   tests/install-deps.sh [--build-only | --quickstart]
set -euo pipefail

# Compiles the BPF programs. Debian 12's default is too old.
bpf_clang=clang
if grep -qsx 'VERSION_CODENAME=bookworm' /etc/os-release; then bpf_clang=clang-16; fi

build=(build-essential cmake ninja-build pkg-config ccache scdoc
       libtomlplusplus-dev libmnl-dev libnftnl-dev libnetfilter-conntrack-dev libnetfilter-queue-dev libmbedtls-dev
       libspdlog-dev libsystemd-dev libbpf-dev "$bpf_clang" libcli11-dev nlohmann-json3-dev libcurl4-gnutls-dev libmicrohttpd-dev
       libncurses-dev libexpected-dev libgtest-dev libgmock-dev node-d3 node-dagre-layout file)
tests=(netbase libclang-rt-16-dev llvm-16 clang-format-16 clang-tidy-16 shellcheck codespell flake8 black debootstrap
       systemd systemd-container dbus docker.io nftables iptables busybox-static nginx-light
       curl conntrack tcpdump iproute2 iperf3 wrk socat attr jq python3 python3-jsonschema cpio zstd xz-utils qemu-system-x86 dnsutils procps
       bash-completion libcap2-bin kmod dnsmasq-base
       redis-server libnginx-mod-stream openssl
       prometheus lintian podman openssl
       graphviz chromium fish zsh tmux
       python3-yaml rsyslog ansible-lint)

quickstart=(busybox-static curl iproute2 nftables procps)

packages=("${build[@]}")
case ${1:-} in
  --build-only) ;;
  --quickstart) packages+=("${quickstart[@]}") ;;
  '') packages+=("${tests[@]}") ;;
  *)
    echo "install-deps: unknown option '$1'; use --build-only, --quickstart or none" >&2
    exit 2
    ;;
esac

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0
if ((EUID != 0)); then
  echo "install-deps: not running as root; run it with sudo to install ${missing[*]}" >&2
  exit 1
fi

log=$(mktemp)
temporary=("$log")
trap 'rm -f "${temporary[@]}"' EXIT
# Installing nginx or Docker for the tests must not start them on this host.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  temporary+=("$policy")
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "Missing packages: ${#missing[@]}. Installing them and their dependencies ..." >&2
{
  apt-get -qq update &&
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}"
} </dev/null >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
