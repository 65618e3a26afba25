#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What datagrams cost, as ratios measured in one run, in turns: requests and new flows between two
hosts, bare, with connection tracking alone, and through trireme; queries to a name server on the
same host, without trireme, with it, and with names in the policy; a network of 10 CIDRs and one of
10,000.

    sudo python3 tests/bench/datagrams.py [--rounds N] [--seconds S] [--only PART ...] [--json]

Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Needs dnsperf (apt
install dnsperf). Takes about two minutes.
"""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench import turns  # noqa: E402
from tests.system import fleet, undo, waiting  # noqa: E402
from tests.system.host import TRIRUN, Host, kill_quietly  # noqa: E402

SERVER, PORT = "10.98.0.2", 8080
PARALLEL = 32  # concurrent flows
NEW_FLOWS = 2000  # in each turn
ECHO = """import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
while True:
    data, sender = server.recvfrom(64)
    server.sendto(data, sender)
"""
CLIENT = """import socket, struct, sys, time
def flow(port=0):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
    made.bind(("", port))
    made.connect((sys.argv[1], int(sys.argv[2])))
    return made
def ask(flows):
    for each in flows:
        each.send(b"x")
    for each in flows:
        each.recv(1)
"""
# This many flows with one pending request each, after they have been authorized.
REQUESTS = (
    CLIENT
    + """
flows = [flow() for _ in range(int(sys.argv[3]))]
def rate(seconds):
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        ask(flows)
        count += len(flows)
    return count / (time.monotonic() - began)
rate(0.1)
print(rate(float(sys.argv[4])))
"""
)
# One exchange in each flow, this many concurrently, from ports that no flow has used before.
FLOWS = (
    CLIENT
    + """
first, count, at_once = map(int, sys.argv[3:])
began = time.monotonic()
for port in range(first, first + count, at_once):
    flows = [flow(each) for each in range(port, min(port + at_once, first + count))]
    ask(flows)
    for each in flows:
        each.close()
print(count / (time.monotonic() - began))
"""
)


class Path:
    """Two hosts, and requests between them."""

    def __init__(self, name, trust=fleet.bare, started=("client", "server"), policy="", rules=""):
        self.name = name
        self.fleet = fleet.Fleet(("client", "server"), trust, policy=policy, start=False)
        self.port = 1024
        self.wrapper = [TRIRUN, "--label", "app=bench", "--"] if started else []
        try:
            for each in started:
                self.fleet[each].start()
            if rules:
                for each in self.fleet.hosts.values():
                    each.nft(rules)
            self.echo = self.fleet["server"].popen(
                [
                    *(self.wrapper if "server" in started else []),
                    "/usr/bin/python3",
                    "-c",
                    ECHO,
                    SERVER,
                    str(PORT),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self.echo.stdout.readline() == "ready\n", f"no server ({name})"
        except BaseException:
            self.fleet.close()
            raise

    def run(self, program, *arguments):
        return float(
            self.fleet["client"].must(
                [
                    *self.wrapper,
                    "/usr/bin/python3",
                    "-c",
                    program,
                    SERVER,
                    str(PORT),
                    *map(str, arguments),
                ]
            )
        )

    def measure(self, seconds):
        return {
            "requests/s, 1 flow": self.run(REQUESTS, 1, seconds),
            f"requests/s, {PARALLEL} flows": self.run(REQUESTS, PARALLEL, seconds),
        }

    def close(self):
        kill_quietly(self.echo)
        self.fleet.close()


class NewFlows(Path):
    """The same hosts, with new flows."""

    def measure(self, seconds):
        result = super().measure(seconds)
        for at_once in (1, PARALLEL):
            if self.port + NEW_FLOWS > 65536:
                self.port = 1024
                for each in self.fleet.hosts.values():
                    each.must(["conntrack", "-F"])
            result[f"new flows/s, {at_once} at a time"] = self.run(
                FLOWS, self.port, NEW_FLOWS, at_once
            )
            self.port += NEW_FLOWS
        return result


class Resolver:
    """dnsmasq and its clients on one host."""

    def __init__(self, name, policy=None, asked="deb.example.org"):
        self.name = name
        self.host = Host(policy or "", start=policy is not None)
        self.wrapper = [TRIRUN, "--label", "app=bench", "--"] if policy is not None else []
        try:
            self.questions = self.host.undo.directory + "/questions"
            with open(self.questions, "w", encoding="ascii") as file:
                file.write(f"{asked} A\n")
            self.server = self.host.popen(
                [
                    *self.wrapper,
                    "/usr/sbin/dnsmasq",
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--user=root",
                    "--bind-interfaces",
                    "--listen-address=127.0.0.1",
                    "--pid-file",
                    "--local-ttl=60",
                    f"--host-record={asked},192.0.2.1",
                ],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            waiting.until(lambda: self.ask(1) > 0, f"dnsmasq answers ({name})", 20)
        except BaseException:
            self.host.close()
            raise

    def ask(self, seconds):
        done = self.host.run(
            [
                *self.wrapper,
                "dnsperf",
                "-s",
                "127.0.0.1",
                "-d",
                self.questions,
                "-c",
                "8",
                "-q",
                "64",
                "-l",
                str(seconds),
            ]
        )
        rate = re.search(r"Queries per second:\s+([0-9.]+)", done.stdout)
        return float(rate[1]) if rate else 0.0

    def measure(self, seconds):
        return {"queries/s": self.ask(seconds)}

    def close(self):
        kill_quietly(self.server)
        self.host.close()


def names(*listed):
    """A policy with names, in which a rule makes answers of the resolver trusted."""
    return (
        f'[[network]]\nname = "mirror"\nnames = {json.dumps(listed)}\n[[allow]]\nfrom = "app=bench"\nto = ["app=bench", "@mirror"]\n'
        'ports = ["udp/53", "tcp/443"]\n'
    )


def networks(count):
    """A policy with a network of this many CIDRs that are not adjacent, one of which is the
    server's."""
    cidrs = [f"{SERVER}/32"] + [
        f"172.{16 + at // 65536}.{at // 256 % 256}.{at % 256}/32"
        for at in range(0, 2 * count - 2, 2)
    ]
    return f'[[network]]\nname = "far"\ncidrs = {json.dumps(cidrs)}\n[[allow]]\nfrom = "app=bench"\nto = "@far"\nports = ["udp/{PORT}"]\n'


# The variants of each part. The first one is the base of the ratios.
PARTS = {
    "between hosts": [
        lambda: NewFlows("bare", started=()),
        lambda: NewFlows("conntrack", started=(), rules=turns.CONNTRACK),
        lambda: NewFlows("trireme", fleet.shared_secret),
    ],
    "name server": [
        lambda: Resolver("bare"),
        lambda: Resolver("trireme", ""),
        lambda: Resolver("other names", names("www.example.org")),
        lambda: Resolver("its name", names("*.example.org")),
    ],
    "networks": [
        lambda: Path("10 CIDRs", started=("client",), policy=networks(10)),
        lambda: Path("10,000 CIDRs", started=("client",), policy=networks(10_000)),
    ],
}


def measure(part, rounds, seconds):
    with turns.made(PARTS[part]) as variants:
        results = turns.taken(variants, rounds, seconds)
    first, *others = results
    ratios = {
        key: {name: turns.ratio(results, key, name, first) for name in others}
        for key in results[first][0]
    }
    return {"medians": turns.medians(results), f"of {first}": ratios}


def show(part, result):
    medians, (of, ratios) = result["medians"], list(result.items())[1]
    print(f"{part:28}" + "".join(f"{name:>14}" for name in medians) + f"   {of}")
    for key, values in ratios.items():
        print(
            f"{key:28}"
            + "".join(f"{each[key]:14,.0f}" for each in medians.values())
            + "   "
            + ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        )


def main():
    options = turns.options(__doc__, list(PARTS), 1)
    undo.end_on_signals()
    result = {part: measure(part, options.rounds, options.seconds) for part in options.only}
    if options.json:
        print(json.dumps(result))
        return
    for part, measured in result.items():
        show(part, measured)


if __name__ == "__main__":
    main()
