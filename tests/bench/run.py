#!/usr/bin/env python3
"""What the local path costs, as ratios in one run: the same work bare, with conntrack alone, and under trireme, taking turns.

    sudo python3 tests/bench/run.py [--rounds N] [--seconds S] [--json]

Builds nothing: the products are those of build/release, or of TRIREME_PRODUCTS (configured with TRIREME_BENCH=ON for the costs in the kernel
alone, up to 10,000 workloads). About two minutes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench import turns  # noqa: E402
from tests.system import undo, waiting  # noqa: E402
from tests.system.host import PRODUCTS, TRIRECTL, TRIRUN, Host  # noqa: E402

NGINX = """daemon off; master_process off; pid {0}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};
server {{ listen 127.0.0.1:8080 backlog=4096; location / {{ return 200 "ok"; }} }} }}
"""
# One connection after the other, from connect to close, in microseconds.
CONNECT = """import socket, time
taken = []
for _ in range({count}):
    began = time.perf_counter_ns()
    with socket.create_connection(("127.0.0.1", 8080)) as opened:
        taken.append(time.perf_counter_ns() - began)
taken.sort()
print(taken[len(taken) // 2] / 1000, taken[len(taken) * 99 // 100] / 1000)
"""
# Datagrams there and back.
UDP = """import socket, time
a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0)); a.connect(b.getsockname()); b.connect(a.getsockname())
began, count = time.monotonic(), 0
while time.monotonic() - began < {seconds}:
    for _ in range(100):
        a.send(b"x"); b.recv(1); b.send(b"x"); a.recv(1)
    count += 100
print(count / (time.monotonic() - began))
"""


class Variant:
    """A host, and how its work is started."""

    def __init__(self, name, wrapper=(), rules=None, daemon=False):
        self.name = name
        self.host = Host("", "", start=daemon)
        self.wrapper = list(wrapper)
        self.servers = []
        try:
            self.serve(rules)
        except BaseException:
            self.close()
            raise

    def serve(self, rules):
        if rules:
            self.host.nft(rules)
        directory = self.host.undo.directory
        os.chmod(directory, 0o777)
        with open(directory + "/nginx.conf", "w", encoding="utf-8") as file:
            file.write(NGINX.format(directory))
        self.servers = [
            self.host.popen([*self.wrapper, "nginx", "-c", directory + "/nginx.conf"]),
            self.host.popen(
                [*self.wrapper, "iperf3", "-s", "-B", "127.0.0.1"], stdout=subprocess.DEVNULL
            ),
        ]
        waiting.until(
            lambda: self.run(["curl", "-s", "http://127.0.0.1:8080"]) == "ok", "nginx answers"
        )

    def run(self, argv):
        return self.host.run([*self.wrapper, *argv], timeout=120).stdout

    def measure(self, seconds):
        wrk = self.run(
            [
                "wrk",
                "-t1",
                "-c32",
                f"-d{seconds}s",
                "-H",
                "Connection: close",
                "http://127.0.0.1:8080/",
            ]
        )
        iperf = json.loads(self.run(["iperf3", "-c", "127.0.0.1", "-t", str(seconds), "-J"]))
        p50, p99 = self.run(["/usr/bin/python3", "-c", CONNECT.format(count=2000)]).split()
        udp = self.run(["/usr/bin/python3", "-c", UDP.format(seconds=seconds)])
        return {
            "connections/s": float(re.search(r"Requests/sec:\s+([0-9.]+)", wrk)[1]),
            "Gbit/s": iperf["end"]["sum_received"]["bits_per_second"] / 1e9,
            "udp round trips/s": float(udp),
            "connect p50 us": float(p50),
            "connect p99 us": float(p99),
        }

    def close(self):
        for server in self.servers:
            server.kill()
            server.wait()
        self.host.close()


def data_path(rounds, seconds):
    makers = (
        lambda: Variant("bare"),
        lambda: Variant("conntrack", rules=turns.CONNTRACK),
        lambda: Variant("trireme", [TRIRUN, "--label", "app=bench", "--"], daemon=True),
    )
    with turns.made(makers) as variants:
        return turns.taken(variants, rounds, seconds)


def workloads(counts):
    """Milliseconds from trirun to exec, with so many workloads there already."""
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
                )  # which tells of every process killed in the end
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
    """Milliseconds of `trirectl reload`, with so many rules and 100 workloads."""
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
    """Microseconds of the enforcer's transactions; nothing where its helper is not built."""
    helper = PRODUCTS + "/tests/bench/trireme_bench_enforcer"
    return (
        json.loads(subprocess.run([helper], check=True, capture_output=True, text=True).stdout)
        if os.path.exists(helper)
        else {}
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--workloads", type=int, nargs="*", default=[0, 100, 1000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    undo.end_on_signals()
    results = data_path(options.rounds, options.seconds)
    path = turns.medians(results)
    ratios = {
        key: {other: turns.ratio(results, key, "trireme", other) for other in ("bare", "conntrack")}
        for key in path["bare"]
    }
    result = {
        "path": path,
        "ratios": ratios,
        "trirun ms by workloads": workloads(options.workloads),
        "reload ms by rules": reloads([10, 100, 1000]),
        "kernel alone": kernel_alone(),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{'':20}" + "".join(f"{name:>12}" for name in path) + f"{'/ bare':>9}{'/ conntrack':>12}"
    )
    for key in path["bare"]:
        print(
            f"{key:20}"
            + "".join(f"{values[key]:12,.1f}" for values in path.values())
            + f"{ratios[key]['bare']:9.2f}{ratios[key]['conntrack']:12.2f}"
        )
    for title in ("trirun ms by workloads", "reload ms by rules"):
        print(
            f"\n{title}: "
            + ", ".join(f"{count}: {value:.1f}" for count, value in result[title].items())
        )
    for title, costs in result["kernel alone"].items():
        print(
            f"kernel alone, {title}: "
            + "; ".join(
                f"{count}: {_in_words(cost)}"
                for count, cost in sorted(costs.items(), key=lambda item: int(item[0]))
            )
        )


def _in_words(cost):
    return (
        ", ".join(f"{name} {value:.0f}" for name, value in cost.items())
        if isinstance(cost, dict)
        else f"{cost:.0f}"
    )


if __name__ == "__main__":
    main()
