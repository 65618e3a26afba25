#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What 10,000 workloads and 100,000 flows a minute cost, half of the flows denied, and how fast
trirectl answers meanwhile.

    sudo python3 tests/bench/scale.py [--workloads N] [--flows N] [--minutes M] [--json]

The connection rate is compared with that of a host with two workloads, in turns before the flows
begin. Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Takes about six
minutes.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench.variants import WORKLOAD, Variant  # noqa: E402
from tests.system import crowd, undo  # noqa: E402

COMMANDS = {
    "status": ["status"],
    "workloads": ["workloads"],
    "flows": ["flows"],
    "flows --summary": ["flows", "--summary"],
    "flows --live": ["flows", "--live"],
    "flows --with": ["flows", "--with", "role=talker", "--port", "21000-21999"],
    "policy graph": ["policy", "graph"],
    "policy diff": ["policy", "diff", "{next}"],
    "policy suggest": ["policy", "suggest", "--denied"],
}
# Rules that the compared directory adds.
NEXT = '\n[[allow]]\nfrom = "app=a3"\nto = "app=a5"\nports = ["tcp/99"]\n'


def rates(rounds, few, many):
    """Connections per second, in turns."""
    taken = {"few": [], "many": []}
    for _ in range(rounds):
        for name, variant in (("few", few), ("many", many)):
            taken[name].append(variant.measure(1)["connections/s"])
    ratio = statistics.median(b / a for a, b in zip(taken["few"], taken["many"], strict=True))
    return {**{name: statistics.median(each) for name, each in taken.items()}, "ratio": ratio}


def ask_all(host, directory, taken):
    for name, command in COMMANDS.items():
        command = [word.format(next=directory) for word in command]
        milliseconds, _ = crowd.asked(host, *command, expected=(0, 1) if "diff" in name else (0,))
        taken.setdefault(name, []).append(milliseconds)


def in_short(taken):
    return {
        name: {"p50 ms": statistics.median(each), "max ms": max(each)}
        for name, each in taken.items()
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", type=int, default=10_000)
    parser.add_argument("--talkers", type=int, default=40)
    parser.add_argument("--flows", type=int, default=100_000, help="flows per minute")
    parser.add_argument("--minutes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    undo.end_on_signals()
    result = {}
    with contextlib.ExitStack() as stack:
        few = Variant("few", WORKLOAD, daemon=True)
        stack.callback(few.close)
        many = Variant("many", WORKLOAD, daemon=True)
        stack.callback(many.close)
        host = many.host
        host.explicit_reload(crowd.POLICY)
        following = host.undo.directory + "/next"
        os.mkdir(following)
        for name, content in (("policy.toml", crowd.POLICY + NEXT), ("identity.toml", "")):
            with open(f"{following}/{name}", "w", encoding="utf-8") as file:
                file.write(content)
        daemon = crowd.Daemon(host)
        result["resident MB, no workloads"] = daemon.resident()
        began = time.monotonic()
        everybody = crowd.Crowd(host, options.workloads, options.talkers)
        result["seconds to launch"] = time.monotonic() - began
        result["workloads"] = host.status()["workloads"]["enforced"]
        result["workloads of the other host"] = few.host.status()["workloads"]["enforced"]
        result["resident MB, 0 minutes"] = daemon.resident()
        result["connections/s"] = rates(options.rounds, few, many)
        taken = {}
        for _ in range(3):
            ask_all(host, following, taken)
        result["quiet"] = in_short(taken)
        taken = {}
        everybody.talk(options.flows / 60)
        began = time.monotonic()
        daemon.share()
        time.sleep(10)
        result["CPU while nobody asks"] = daemon.share()
        for minute in range(1, options.minutes + 1):
            while time.monotonic() < began + 60 * minute:
                ask_all(host, following, taken)
                time.sleep(max(0.0, min(3.0, began + 60 * minute - time.monotonic())))
            results = everybody.results()
            result[f"minute {minute}"] = {
                "flows": crowd.flows(results),
                "wrong": crowd.wrong(results),
                "resident MB": daemon.resident(),
                "CPU": daemon.share(),
            }
        result["busy"] = in_short(taken)
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
