#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What 10,000 workloads and 100,000 flows a minute cost, half of the flows denied, how fast
trirectl answers meanwhile, and what `trirectl ui` and `trirectl top` cost meanwhile.

    sudo python3 tests/bench/scale.py [--workloads N] [--flows N] [--minutes M] [--json]

The connection rate is compared with that of a host with two workloads, in turns before the flows
begin. Builds nothing: uses the programs in build/release, or in TRIREME_PRODUCTS. Takes about eight
minutes.
"""

import argparse
import contextlib
import json
import os
import pty
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
from tests.bench.variants import WORKLOAD, Variant  # noqa: E402
from tests.system import crowd, undo  # noqa: E402
from tests.system.host import TRIRECTL, kill_quietly  # noqa: E402

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
# Asks `trirectl ui` for updates as its page does, which waits 0.25 s between two requests.
READER = """
import json, re, sys, time, urllib.request
url = sys.argv[1]
secret = re.search('"secret":"([0-9a-f]{64})"', urllib.request.urlopen(url).read().decode())[1]
since = 0
while True:
    request = urllib.request.Request(url.split("?")[0] + f"api/updates?since={since}",
                                     headers={"X-Trireme-Session": secret})
    since = json.load(urllib.request.urlopen(request))["change"]
    print(since, flush=True)
    time.sleep(0.25)
"""


@contextlib.contextmanager
def ui(host):
    """`trirectl ui` with a page that is open and has its first update. Yields its pid."""
    server = host.popen(
        [TRIRECTL, "ui"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    url = server.stdout.readline().strip()
    reader = host.popen([sys.executable, "-c", READER, url], stdout=subprocess.PIPE, text=True)
    try:
        if not reader.stdout.readline():
            raise AssertionError("trirectl ui has sent no update")
        threading.Thread(target=reader.stdout.read, daemon=True).start()
        yield server.pid
        if reader.poll() is not None:
            raise AssertionError("the reader of the page has ended")
    finally:
        kill_quietly(reader)
        kill_quietly(server)


@contextlib.contextmanager
def top(host):
    """`trirectl top` on a terminal, which shows its first table. Yields its pid."""
    shown, terminal = pty.openpty()
    process = host.popen(
        ["env", "TERM=xterm", TRIRECTL, "top"], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)

    drawn = threading.Event()

    def read():
        text = b""
        with contextlib.suppress(OSError):  # EIO: it has ended
            while data := os.read(shown, 65536):
                text = (text + data)[-131072:]
                if b"app=" in text or b"role=" in text:
                    drawn.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        if not drawn.wait(60):
            raise AssertionError("trirectl top has shown no workload")
        yield process.pid
        if process.poll() is not None:
            raise AssertionError("trirectl top has ended")
    finally:
        kill_quietly(process)
        reader.join()
        os.close(shown)


def cost_of(view, host, daemon, seconds):
    """The share of one processor that the daemon uses more with this view than before and after
    it, and what trirectl uses."""

    def without():
        daemon.share()
        time.sleep(seconds)  # the time that is measured
        return daemon.share()

    before = without()
    with view(host) as pid:
        trirectl = crowd.Used(pid)
        daemon.share()
        time.sleep(seconds)  # the same
        during, own = daemon.share(), trirectl.share()
    more = during - statistics.mean((before, without()))
    return {"daemon": more, "trirectl": own, "together": more + own}


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
        daemon = crowd.Used(host.daemon.pid)
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
        result["CPU of trirectl ui"] = cost_of(ui, host, daemon, 60)
        result["CPU of trirectl top"] = cost_of(top, host, daemon, 60)
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
