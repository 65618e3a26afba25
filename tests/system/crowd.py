# SPDX-License-Identifier: Apache-2.0
"""A crowd: thousands of workloads on one host, most of them asleep, and some that talk to each
other all the time, allowed and refused."""

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
SHARED = 200  # values of `app`
AT_ONCE = 100  # launches that run at the same time

# Reads "N" from stdin, starts N more sleeping workloads, each with labels of its own, and writes a
# line.
STARTER = """i=0
while read -r count; do
  for _ in $(seq "$count"); do i=$((i + 1)); {trirun} -l app=a$((i % {shared})) -l id=s$i -- sleep 3600 & done
  echo
done
"""


class Crowd:
    """`count` workloads on `host`, `talkers` of them awake."""

    def __init__(self, host, count, talkers):
        self.host = host
        self.talkers = [self._talker(i, talkers) for i in range(talkers)]
        for each in self.talkers:
            each.stdout.readline()  # it listens
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
            _tell(starter, more)
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
        """All of them together, from now on: half of it allowed, half by UDP."""
        for each in self.talkers:
            _tell(each, per_second / len(self.talkers))

    def told(self):
        """What came of it since the last time: {"tcp allowed": {outcome: count}, ...}, and on it
        goes."""
        for each in self.talkers:
            _tell(each, "tell")
        sums = {}
        for each in self.talkers:
            for kind, outcomes in json.loads(each.stdout.readline()).items():
                for outcome, count in outcomes.items():
                    sums.setdefault(kind, {}).setdefault(outcome, 0)
                    sums[kind][outcome] += count
        return sums


def _tell(process, line):
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _end(process):
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def flows(told):
    return sum(sum(outcomes.values()) for outcomes in told.values())


def wrong(told):
    """Outcomes that policy does not explain."""
    return {
        f"{kind}: {outcome}": count
        for kind, outcomes in told.items()
        for outcome, count in outcomes.items()
        if (outcome == "ok") != kind.endswith("allowed")
    }


class Daemon:
    """What a host's daemon takes."""

    TICKS = os.sysconf("SC_CLK_TCK")

    def __init__(self, host):
        self.directory = f"/proc/{host.daemon.pid}"
        self.began = self.cpu()
        self.since = time.monotonic()

    def resident(self):
        """MB."""
        with open(self.directory + "/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

    def cpu(self):
        """Seconds."""
        with open(self.directory + "/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / self.TICKS

    def share(self):
        """Of one processor, since the last call."""
        before, since = self.began, self.since
        self.began, self.since = self.cpu(), time.monotonic()
        return (self.began - before) / (self.since - since)


def asked(host, *command, expected=(0,)):
    """Milliseconds that a command of trirectl takes, and its output."""
    began = time.monotonic()
    done = host.run([TRIRECTL, *command], timeout=120)
    taken = (time.monotonic() - began) * 1000
    if done.returncode not in expected:
        raise AssertionError(
            f"trirectl {' '.join(command)} exited with {done.returncode}: {done.stderr}"
        )
    return taken, done.stdout
