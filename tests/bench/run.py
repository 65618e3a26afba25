#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What trireme costs on one host, as ratios measured in one run, in turns.

    sudo python3 tests/bench/run.py [--rounds N] [--seconds S] [--only PART...] [--json]

path       the same work over loopback: bare, with connection tracking alone, and between workloads
crowd      between workloads, with 10,000 workloads compared with 10; memory for 10,000
unlabeled  between unlabeled processes, over a veth pair to another namespace, compared with
           connection tracking alone
samples    short UDP flows to many ports of the same workload, with the chain that reports allowed
           flows, compared with a table from which its rules were removed
scopes     `trirun true` compared with `systemd-run --scope true`, in a booted systemd
launches   trirun with an increasing number of workloads
reloads    `trirectl reload` with an increasing number of rules
kernel     the enforcer's transactions alone, if the build has TRIREME_BENCH=ON

Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Takes about eight
minutes on two idle cores, four of them for `crowd`.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench import turns  # noqa: E402
from tests.bench.variants import PYTHON, WORKLOAD, Linked, Variant  # noqa: E402
from tests.system import crowd, lab, undo, waiting  # noqa: E402
from tests.system.host import PRODUCTS, TRIRECTL, TRIRUN, Host  # noqa: E402

# Runs each command in turn, this many times. Prints the milliseconds of each run.
PAIRS = """import json, subprocess, sys, time
commands = json.loads(sys.argv[1])
taken = {name: [] for name in commands}
for _ in range(int(sys.argv[2])):
    for name, argv in commands.items():
        began = time.perf_counter()
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
        taken[name].append({"ms": (time.perf_counter() - began) * 1000})
print(json.dumps(taken))
"""
# In each turn: reads a number of seconds, and prints the flows per second. Each is new to conntrack,
# and of another kind than the ones before.
SHORT_FLOWS = """import socket, sys, time
servers = []
for _ in range(500):
    servers.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    servers[-1].bind(("127.0.0.1", 0))
print("ready", flush=True)
for line in sys.stdin:
    began, count = time.monotonic(), 0
    while time.monotonic() < began + float(line):
        for server in servers:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(server.getsockname())
                client.send(b"x")
                server.recv(1)
        count += len(servers)
    print(count / (time.monotonic() - began), flush=True)
"""
# Targets of the ratios. For times the inverse is used: 1 means "as fast as".
TARGETS = {
    "crowd": ("at least", 0.97),
    "unlabeled": ("at least", 0.98),
    "scopes": ("at most", 0.95),
    "daemon MB": ("at most", 80),
    "BPF maps MB": ("at most", 40),
}


def compared(results, ours, other):
    """The medians of all variants, and the ratio of `ours` to `other`; the inverse for times."""
    path = turns.medians(results)
    ratios = {key: turns.ratio(results, key, ours, other) for key in path[ours]}
    return {
        **path,
        "ratio": {key: 1 / each if key.endswith(" us") else each for key, each in ratios.items()},
    }


def local_path(rounds, seconds):
    makers = (
        lambda: Variant("bare"),
        lambda: Variant("conntrack", rules=turns.CONNTRACK),
        lambda: Variant("trireme", WORKLOAD, daemon=True),
    )
    with turns.made(makers) as variants:
        results = turns.taken(variants, rounds, seconds)
    path = turns.medians(results)
    ratios = {
        key: {other: turns.ratio(results, key, "trireme", other) for other in ("bare", "conntrack")}
        for key in path["bare"]
    }
    return {"path": path, "ratios": ratios}


def map_megabytes(pid):
    """Memory of the daemon's BPF maps as the kernel counts it (since Linux 6.4; before, by their
    capacity)."""
    sizes = {}
    for name in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            if "map_id" in fields:
                sizes[int(fields["map_id"])] = int(fields["memlock"])
    return sum(sizes.values()) / 2**20


def with_crowds(rounds, seconds, most):
    """Compares `most` workloads with 10 workloads, and measures the memory of the daemon and the
    kernel for them."""
    makers = [
        lambda count=count: Variant(f"{count:,}", WORKLOAD, daemon=True) for count in (10, most)
    ]
    with turns.made(makers) as variants:
        for variant, count in zip(variants, (10, most)):
            crowd.Crowd(variant.host, count, 0)
        few, many = variants
        results = turns.taken(variants, rounds, seconds)
        return {
            **compared(results, many.name, few.name),
            "daemon MB": crowd.Used(many.host.daemon.pid).resident(),
            "BPF maps MB": map_megabytes(many.host.daemon.pid),
        }


def unlabeled(rounds, seconds):
    makers = (
        lambda: Linked("conntrack", rules=turns.CONNTRACK),
        lambda: Linked("trireme", daemon=True),
    )
    with turns.made(makers) as variants:
        return compared(turns.taken(variants, rounds, seconds), "trireme", "conntrack")


class ShortFlows:
    """A workload that makes short flows. Without samples, the daemon is stopped before the rules
    are removed: it would restore them."""

    def __init__(self, name, has_samples):
        self.name, self.has_samples = name, has_samples
        self.host = Host("", "")
        try:
            self.work = self.host.popen(
                [*WORKLOAD, PYTHON, "-c", SHORT_FLOWS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            if self.work.stdout.readline() != "ready\n":
                raise RuntimeError("the workload has not started")
            if not has_samples:
                os.kill(self.host.daemon.pid, signal.SIGSTOP)
                self.host.must(["nft", "flush", "chain", "inet", "trireme", "sample"])
        except BaseException:
            self.close()
            raise

    def measure(self, seconds):
        self.host.must(["conntrack", "-F"])  # the flows of the previous turn
        print(seconds, file=self.work.stdin, flush=True)
        return {"UDP flows/s": float(self.work.stdout.readline())}

    def close(self):
        if not self.has_samples:
            os.kill(self.host.daemon.pid, signal.SIGCONT)
        self.host.close()


def samples(rounds, seconds):
    makers = (
        lambda: ShortFlows("no samples", has_samples=False),
        lambda: ShortFlows("samples", has_samples=True),
    )
    with turns.made(makers) as variants:
        return compared(turns.taken(variants, rounds, seconds), "samples", "no samples")


def scopes(pairs):
    """Milliseconds until `true` has ended in a scope of its own."""
    booted = lab.Lab()
    try:
        booted.start_trireme()
        commands = {
            "systemd-run": ["systemd-run", "--quiet", "--scope", "true"],
            "trirun": ["trirun", "--label", "app=one", "--", "true"],
        }
        argv = [PYTHON, "-c", PAIRS, json.dumps(commands), str(pairs)]
        results = json.loads(booted.run(argv, timeout=600).stdout)
    finally:
        booted.close()
    return {**turns.medians(results), "ratio": turns.ratio(results, "ms", "trirun", "systemd-run")}


def launches(counts):
    """Milliseconds from the start of trirun to its exec, with this many workloads."""
    host = Host("")
    result = {}
    try:
        there = 0
        for count in counts:
            line = (
                f'for i in $(seq {count - there}); do {TRIRUN} -l app=w$((i % 50)) -- sleep 600 & done; wait -n'
                if count
                else ":"
            )
            if count:
                host.popen(
                    ["bash", "-c", line], stderr=subprocess.DEVNULL
                )  # which reports every process that is killed at the end
                waiting.until(
                    lambda: host.status()["workloads"]["enforced"] >= count,
                    f"{count} workloads",
                    600,
                    0.1,
                )
            there = count
            taken = []
            for _ in range(30):
                began = time.perf_counter()
                host.must([TRIRUN, "-l", "app=one", "--", "true"])
                taken.append((time.perf_counter() - began) * 1000)
            result[str(count)] = statistics.median(taken)
    finally:
        host.close()
    return result


def reloads(rules):
    """Milliseconds of `trirectl reload`, with this many rules and 100 workloads."""
    host = Host("")
    result = {}
    try:
        host.popen(
            [
                "bash",
                "-c",
                f'for i in $(seq 100); do {TRIRUN} -l app=w$i -- sleep 600 & done; wait -n',
            ],
            stderr=subprocess.DEVNULL,
        )
        waiting.until(
            lambda: host.status()["workloads"]["enforced"] >= 100, "100 workloads", 60, 0.1
        )
        for count in rules:
            host.write(
                "policy.toml",
                "".join(
                    f'[[allow]]\nfrom = "app=w{i}"\nto = "app=w{i + 1}"\nports = ["tcp/{1000 + i}"]\n'
                    for i in range(count)
                ),
            )
            taken = []
            for _ in range(5):
                began = time.perf_counter()
                host.must([TRIRECTL, "reload"])
                taken.append((time.perf_counter() - began) * 1000)
            result[str(count)] = statistics.median(taken)
    finally:
        host.close()
    return result


def kernel_alone():
    """Microseconds of the enforcer's transactions; empty if the helper is not built."""
    helper = PRODUCTS + "/tests/bench/trireme_bench_enforcer"
    return (
        json.loads(subprocess.run([helper], check=True, capture_output=True, text=True).stdout)
        if os.path.exists(helper)
        else {}
    )


def measure(options):
    turn = (options.rounds, options.seconds)
    parts = {
        "path": lambda: local_path(*turn),
        "crowd": lambda: with_crowds(*turn, options.crowd),
        "unlabeled": lambda: unlabeled(*turn),
        "samples": lambda: samples(*turn),
        "scopes": lambda: scopes(options.pairs),
        "launches": lambda: launches(options.workloads),
        "reloads": lambda: reloads([10, 100, 1000]),
        "kernel": kernel_alone,
    }
    return {name: part() for name, part in parts.items() if name in options.only}


PARTS = ("path", "crowd", "unlabeled", "samples", "scopes", "launches", "reloads", "kernel")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--workloads", type=int, nargs="*", default=[0, 100, 1000])
    parser.add_argument("--crowd", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    undo.end_on_signals()
    result = measure(options)
    if options.json:
        print(json.dumps(result))
        return
    for name, part in result.items():
        PRINTERS[name](name, part)
        print(flush=True)


def print_path(_, part):
    values, ratios = part["path"], part["ratios"]
    print(
        f"{'':20}" + "".join(f"{name:>12}" for name in values) + f"{'/ bare':>9}{'/ conntrack':>12}"
    )
    for key in values["bare"]:
        print(
            f"{key:20}"
            + "".join(f"{each[key]:12,.1f}" for each in values.values())
            + f"{ratios[key]['bare']:9.2f}{ratios[key]['conntrack']:12.2f}"
        )


def verdict(name, value):
    word, bound = TARGETS[name]
    met = value >= bound if word == "at least" else value <= bound
    return f"{'met' if met else 'MISSED'}: {word} {bound}"


def print_compared(name, part):
    """Prints two variants, and the ratios that have a target."""
    ratios = part["ratio"]
    (other, others), (ours, mine) = [
        (key, each) for key, each in part.items() if isinstance(each, dict) and key != "ratio"
    ]
    print(f"{name:20}{other:>12}{ours:>12}{'ratio':>8}")
    for key, ratio in ratios.items():
        # The slowest of a hundred varies too much.
        shown = "" if "p99" in key or name not in TARGETS else verdict(name, ratio)
        print(f"{key:20}{others[key]:12,.1f}{mine[key]:12,.1f}{ratio:8.3f}  {shown}")
    for key in ("daemon MB", "BPF maps MB"):
        if key in part:
            print(f"{key:20}{part[key]:24.1f}{'':8}  {verdict(key, part[key])}")


def print_scopes(name, part):
    print(
        f"trirun {part['trirun']['ms']:.1f} ms, systemd-run {part['systemd-run']['ms']:.1f} ms, "
        f"ratio {part['ratio']:.3f}  {verdict(name, part['ratio'])}"
    )


def print_costs(name, part):
    title = {"launches": "trirun ms by workloads", "reloads": "reload ms by rules"}[name]
    print(f"{title}: " + ", ".join(f"{count}: {value:.1f}" for count, value in part.items()))


def print_kernel(_, part):
    for title, costs in part.items():
        print(
            f"kernel alone, {title}: "
            + "; ".join(
                f"{count}: {_in_words(cost)}"
                for count, cost in sorted(costs.items(), key=lambda item: int(item[0]))
            )
        )


PRINTERS = {
    "path": print_path,
    "crowd": print_compared,
    "unlabeled": print_compared,
    "samples": print_compared,
    "scopes": print_scopes,
    "launches": print_costs,
    "reloads": print_costs,
    "kernel": print_kernel,
}


def _in_words(cost):
    return (
        ", ".join(f"{name} {value:.0f}" for name, value in cost.items())
        if isinstance(cost, dict)
        else f"{cost:.0f}"
    )


if __name__ == "__main__":
    main()
