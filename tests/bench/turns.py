# SPDX-License-Identifier: Apache-2.0
"""Helpers of the benchmarks. Variants are measured in turns, and each is compared with the others
of the same turn, because the speed of a machine drifts."""

import argparse
import contextlib
import statistics

# What every Docker host costs already.
CONNTRACK = "table inet bench {\nchain c {\ntype filter hook input priority 0\nct state established accept\n}\n}\n"


def options(description, names, seconds):
    """Parses --rounds, --seconds, --only (some of `names`) and --json."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=seconds)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


@contextlib.contextmanager
def made(makers):
    """Creates all variants. Closes them at the end, also if one cannot be created."""
    with contextlib.ExitStack() as stack:
        variants = []
        for make in makers:
            variants.append(make())
            stack.callback(variants[-1].close)
        yield variants


def taken(variants, rounds, *arguments):
    """{name: results of `measure` in each turn}."""
    results = {variant.name: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            results[variant.name].append(variant.measure(*arguments))
    return results


def medians(results):
    return {
        name: {key: statistics.median(each[key] for each in turns) for key in turns[0]}
        for name, turns in results.items()
    }


def ratio(results, key, ours, other):
    """The median of the ratios of each turn."""
    return statistics.median(
        mine[key] / theirs[key] for mine, theirs in zip(results[ours], results[other])
    )
