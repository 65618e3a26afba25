# SPDX-License-Identifier: Apache-2.0
"""Prints docs/coverage.md: a table of rooms from two summaries of llvm-cov. Run by tests/coverage.sh."""

import argparse
import collections
import datetime
import json
import os

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def room_of(path):
    """The room of a file of src/ROOM/ or include/trireme/ROOM/; None for all other files."""
    parts = os.path.relpath(path, ROOT).split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[:2] == ["include", "trireme"] and len(parts) > 3:
        return parts[2]
    return None


def lines_by_room(file):
    """{room: [lines with code, lines of these that ran]}."""
    with open(file, encoding="utf-8") as summary:
        files = json.load(summary)["data"][0]["files"]
    rooms = collections.defaultdict(lambda: [0, 0])
    for entry in files:
        room = room_of(entry["filename"])
        if room is not None:
            rooms[room][0] += entry["summary"]["lines"]["count"]
            rooms[room][1] += entry["summary"]["lines"]["covered"]
    return rooms


def percent(lines, ran):
    return f"{100 * ran / lines:.1f} %" if lines else "-"


def rows(unit, together):
    """Rows of the table: the least covered room first, the total last."""
    total = [0, 0, 0]
    for room in sorted(together, key=lambda name: together[name][1] / (together[name][0] or 1)):
        lines, ran = together[room]
        ran_by_unit = unit[room][1]
        yield room, lines, percent(lines, ran_by_unit), percent(lines, ran)
        total = [total[0] + lines, total[1] + ran_by_unit, total[2] + ran]
    yield "all", total[0], percent(total[0], total[1]), percent(total[0], total[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit")
    parser.add_argument("together")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--ran", type=int, required=True)
    parser.add_argument("--failed", default="")
    arguments = parser.parse_args()
    failed = arguments.failed.split()

    print("# Coverage\n")
    print(
        "The lines of each room that tests run. `tests/run.sh --coverage` measures them with clang's\n"
        "source-based coverage and rewrites this page. These figures are of commit\n"
        f"{arguments.commit}, {datetime.date.today().isoformat()}. The second figure adds {arguments.ran} files of system tests,\n"
        "which run triremed, trirectl and trirun in network namespaces and cgroups. Tests that boot\n"
        "systemd with Docker or another kernel run other builds and are not counted; neither are the\n"
        "replays of the fuzz targets' corpora.\n"
    )
    if failed:
        print(
            f"These tests failed in this run, so what they cover may be missing: {', '.join(failed)}.\n"
        )
    print("| room | lines | unit tests | unit and system tests |")
    print("|---|---:|---:|---:|")
    for row in rows(lines_by_room(arguments.unit), lines_by_room(arguments.together)):
        print("| {} | {} | {} | {} |".format(*row))


if __name__ == "__main__":
    main()
