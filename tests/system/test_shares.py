"""What a user, a workload or a remote host can use up has a share for each: others go on."""

import re
import subprocess
import time

from tests.system import waiting
from tests.system.host import TRIRECTL, HostCase

NOBODY = 65534
OTHER = 65533

# Requests over the control socket, as fast as they are answered; a connection that is ended is
# opened again.
FLOOD = r"""
import json, socket, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
line = json.dumps({"method": "launch", "params": {"labels": ["app=web"], "unit": "x\n" * 40}})
end, sent, connection = time.monotonic() + seconds, 0, None
while time.monotonic() < end:
    try:
        if connection is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
        connection.sendall((line + "\n").encode())
        sent += 1
        if not connection.recv(4096):
            connection = None
    except OSError:
        connection = None
print(sent)
"""

# As many connections as there can be, which stay open and say nothing.
HOLD = r"""
import socket, sys, time
held = []
for _ in range(int(sys.argv[2])):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    held.append(connection)
print("held", flush=True)
sys.stdin.read()
"""


def _as_user(user, script, *arguments):
    return subprocess.Popen(
        ["/usr/bin/python3", "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=[],
    )


class ControlSocket(HostCase):
    IDENTITY = '[[launch]]\nuser = "65533"\nlabels = ["app=web"]\n'

    def socket(self):
        return self.host.runtime + "/trireme.sock"

    def test_a_flood_of_refused_launches_leaves_the_log_readable(self):
        before = self.host.log_text().count("\n")
        seconds = 4
        with _as_user(NOBODY, FLOOD, self.socket(), str(seconds)) as flood:
            longest = 0
            while flood.poll() is None:
                asked = time.monotonic()
                self.host.status()
                longest = max(longest, time.monotonic() - asked)
            sent = int(flood.communicate()[0])
        summary = waiting.until(
            lambda: re.search(
                r"rate limit: (\d+) log lines left out: \d+ for uid 65534", self.host.log_text()
            ),
            "a line says how many were left out",
        )
        lines = self.host.log_text()
        print(f"\n{sent / seconds:,.0f} requests a second; status within {longest:.2f} s")
        self.assertGreater(int(summary[1]), 0)
        self.assertLess(lines.count("\n") - before, 250)
        refused = [line for line in lines.splitlines() if "by uid 65534" in line]
        self.assertGreater(len(refused), 0)
        for line in refused:
            self.assertLess(len(line), 800)
        self.assertIn("trireme_log_lines_left_out_total", self.host.must([TRIRECTL, "metrics"]))

    def test_one_user_leaves_room_for_others_and_for_root(self):
        with _as_user(NOBODY, HOLD, self.socket(), "600") as held:
            self.assertEqual(held.stdout.readline(), "held\n")
            launched = self.host.run(
                [
                    "setpriv",
                    f"--reuid={OTHER}",
                    f"--regid={OTHER}",
                    "--clear-groups",
                    TRIRECTL.replace("trirectl", "trirun"),
                    "--label",
                    "app=web",
                    "--",
                    "true",
                ]
            )
            self.assertEqual(launched.returncode, 0, launched.stderr)
            self.assertEqual(self.host.status()["mode"], "enforce")
            turned_away = re.search(
                r"^trireme_control_turned_away_total (\d+)",
                self.host.must([TRIRECTL, "metrics"]),
                re.MULTILINE,
            )
            self.assertGreater(int(turned_away[1]), 0)
            held.communicate("")


if __name__ == "__main__":
    import unittest

    unittest.main()
