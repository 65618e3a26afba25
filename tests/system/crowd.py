# SPDX-License-Identifier: Apache-2.0
"""Thousands of workloads on one host. Most of them sleep; some talk to each other all the time, in
allowed and in denied flows."""

import json
import os
import subprocess
import sys
import time

from tests.system import talker, waiting
from tests.system.host import TRIRECTL, TRIRUN

POLICY = (
    "".join(
        f'[[allow]]\nfrom = "app=a{i}"\nto = "app=a{i + 1}"\nports = ["tcp/{1000 + i}"]\n'
        for i in range(100)
    )
    + f"""
[[allow]]
name = "talk"
from = "role=talker"
to = "role=talker"
ports = ["tcp/{talker.OPEN}-{talker.CLOSED - 1}", "udp/{talker.OPEN}-{talker.CLOSED - 1}"]
"""
)
SHARED = 200  # number of values of `app`
AT_ONCE = 100  # concurrent launches

# Reads a number N from stdin, starts N more sleeping workloads, each with its own labels, and
# writes a line.
STARTER = """i=0
while read -r count; do
  for _ in $(seq "$count"); do i=$((i + 1)); {trirun} -l app=a$((i % {shared})) -l id=s$i -- sleep 3600 & done
  echo
done
"""


class Crowd:
    """`count` workloads on `host`, of which `talkers` talk."""

    def __init__(self, host, count, talkers):
        self.host = host
        self.talkers = [self._talker(i, talkers) for i in range(talkers)]
        for each in self.talkers:
            each.stdout.readline()  # until it listens
        starter = host.popen(
            ["bash", "-c", STARTER.format(trirun=TRIRUN, shared=SHARED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        host.undo.call(lambda: _end(starter))
        for there in range(talkers, count, AT_ONCE):
            more = min(AT_ONCE, count - there)
            _send(starter, more)
            starter.stdout.readline()
            waiting.until(
                lambda: host.status()["workloads"]["enforced"] >= there + more,
                f"{there + more} workloads",
                60,
            )

    def _talker(self, index, count):
        argv = [
            TRIRUN,
            "-l",
            "role=talker",
            "-l",
            f"id=t{index}",
            "--",
            sys.executable,
            "-B",
            talker.__file__,
            str(index),
            str(count),
        ]
        made = self.host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host.undo.call(lambda: _end(made))
        return made

    def talk(self, per_second):
        """Makes the talkers begin `per_second` flows together: half of them allowed, half over
        UDP."""
        for each in self.talkers:
            _send(each, per_second / len(self.talkers))

    def results(self):
        """The outcomes since the last call: {"tcp allowed": {outcome: count}, ...}. The talkers
        continue."""
        for each in self.talkers:
            _send(each, "report")
        sums = {}
        for each in self.talkers:
            for kind, outcomes in json.loads(each.stdout.readline()).items():
                for outcome, count in outcomes.items():
                    sums.setdefault(kind, {}).setdefault(outcome, 0)
                    sums[kind][outcome] += count
        return sums


def _send(process, line):
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def flows(results):
    return sum(sum(outcomes.values()) for outcomes in results.values())


def wrong(results):
    """Outcomes that contradict the policy."""
    return {
        f"{kind}: {outcome}": count
        for kind, outcomes in results.items()
        for outcome, count in outcomes.items()
        if (outcome == "ok") != kind.endswith("allowed")
    }


class Used:
    """The resources that a process uses."""

    TICKS = os.sysconf("SC_CLK_TCK")

    def __init__(self, pid):
        self.directory = f"/proc/{pid}"
        self.began = self.cpu()
        self.since = time.monotonic()

    def resident(self):
        """In MB."""
        with open(self.directory + "/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

    def cpu(self):
        """In seconds."""
        with open(self.directory + "/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / self.TICKS

    def share(self):
        """Share of one processor since the last call."""
        before, since = self.began, self.since
        self.began, self.since = self.cpu(), time.monotonic()
        return (self.began - before) / (self.since - since)


def asked(host, *command, expected=(0,)):
    """How many milliseconds a trirectl command takes, and its output."""
    began = time.monotonic()
    done = host.run([TRIRECTL, *command], timeout=120)
    taken = (time.monotonic() - began) * 1000
    if done.returncode not in expected:
        raise AssertionError(
            f"trirectl {' '.join(command)} exited with {done.returncode}: {done.stderr}"
        )
    return taken, done.stdout
