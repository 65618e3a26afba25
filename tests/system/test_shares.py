# SPDX-License-Identifier: Apache-2.0
"""Every resource that a user, a workload or a remote host can use up has a share for each of them:
others continue to work."""

import re
import subprocess
import time
import unittest

from tests.system import linked, undo, waiting
from tests.system.host import TRIRECTL, TRIRUN, Host, HostCase

NOBODY = 65534
OTHER = 65533

# Sends requests over the control socket as fast as they are answered. Reopens the connection when
# it is closed.
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

# Opens as many connections as possible, and leaves them open without sending anything.
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
            "a line counts the lines that were left out",
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
                    TRIRUN,
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


# Other processes have used up this user's inotify instances or watches; the name of the file says
# which.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <stdint.h>
#include <unistd.h>

static char used_up(void) {
  char what = 0;
  const char *path = getenv("TRIREME_TEST_USED_UP");
  int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd >= 0) {
    if (read(fd, &what, 1) != 1) what = 0;
    close(fd);
  }
  return what;
}

int inotify_init1(int flags) {
  if (used_up() == 'd') { errno = EMFILE; return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "inotify_init1"))(flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask) {
  if (used_up() != 0) { errno = ENOSPC; return -1; }
  return ((int (*)(int, const char *, uint32_t))dlsym(RTLD_NEXT, "inotify_add_watch"))(fd, path, mask);
}
"""


class UsedUpInotify(unittest.TestCase):
    """fs.inotify.* limits of uid 0, which root in any container shares."""

    def setUp(self):
        files = undo.Undo()
        self.addCleanup(files.run)
        source = files.directory + "/shim.c"
        with open(source, "w", encoding="utf-8") as file:
            file.write(SHIM)
        library = files.directory + "/shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        self.file = files.directory + "/used-up"
        self.used_up("descriptors")
        self.host = Host(
            policy="",
            start=False,
            environment={"LD_PRELOAD": library, "TRIREME_TEST_USED_UP": self.file},
        )
        self.addCleanup(self.host.close)

    def used_up(self, what):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(what)

    def problems(self):
        return "\n".join(self.host.status()["problems"])

    def test_it_starts_and_looks_again_and_again_until_it_can_watch(self):
        self.host.start()
        self.assertIn("max_user_instances", self.problems())
        self.assertIn("found late", self.problems())
        # The daemon still notices a save and the end of a workload.
        self.host.policy('[[allow]]\nfrom = "app=web"\nto = "app=db"\n')
        self.assertEqual(self.host.trirun("app=web", ["true"]).returncode, 0)
        waiting.until(lambda: not self.host.workloads(), "the scope is gone")
        self.used_up("watches")
        waiting.until(
            lambda: "max_user_watches" in self.problems(), "descriptors are available again"
        )
        self.host.policy('[[allow]]\nfrom = "app=web"\nto = "app=x"\n')
        self.assertEqual(self.host.trirun("app=web", ["true"]).returncode, 0)
        waiting.until(lambda: not self.host.workloads(), "the scope is gone")
        self.used_up("")
        waiting.until(lambda: self.problems() == "", "all files are watched again")
        self.host.policy("")
        self.used_up("watches")
        self.assertEqual(self.host.trirun("app=web", ["true"]).returncode, 0)
        waiting.until(lambda: not self.host.workloads(), "the scope is gone")


class FullConntrack(HostCase):
    POLICY = '[[allow]]\nfrom = "@host"\nto = "app=web"\n'

    def test_a_full_table_is_a_problem_within_a_second_or_so(self):
        """Its size depends on the machine. If it is small, the test fills nine tenths of it."""
        listed = waiting.until(lambda: self.host.status()["conntrack"], "the table was checked")[0]
        self.assertEqual(listed["network"], "@host")
        self.assertFalse(listed["full"])
        self.assertNotIn("conntrack", "\n".join(self.host.status()["problems"]))
        metrics = self.host.must([TRIRECTL, "metrics"])
        self.assertIn('trireme_conntrack_entries{network="@host"}', metrics)
        most = int(re.search(r'^trireme_conntrack_max\{network="@host"\} (\d+)', metrics, re.M)[1])
        if most > MOST_ENTRIES:
            self.skipTest(f"net.netfilter.nf_conntrack_max is {most}")
        self.host.must(["sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=600"])
        self.fill(most * 93 // 100)
        waiting.until(
            lambda: "conntrack of this host" in "\n".join(self.host.status()["problems"]),
            "the full table is reported",
            seconds=3,
        )
        self.host.must(["conntrack", "-F"])
        waiting.until(
            lambda: "conntrack" not in "\n".join(self.host.status()["problems"]),
            "and no longer reported",
            5,
        )

    def fill(self, count):
        """Sends one datagram each in many UDP flows over lo, to ports that no socket has."""
        self.host.must(["/usr/bin/python3", "-c", FILL, str(count)], timeout=120)


MOST_ENTRIES = 300_000
FILL = r"""
import socket, sys
left = int(sys.argv[1])
for host in range(2, 250):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((f"127.0.1.{host}", 0))
    for port in range(1024, 65000):
        if left == 0:
            sys.exit()
        try:
            sender.sendto(b"x", (f"127.0.2.{host}", port))
        except OSError:
            pass
        left -= 1
"""


# Opens connections to a peer that never answers, and gives each up at once; then sends 16 datagrams
# in each of many flows.
HALF_OPEN = r"""
import socket, sys
address, count = sys.argv[1], int(sys.argv[2])
for i in range(count):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.connect((address, 1024 + i % 60000))
    except OSError:
        pass
    connection.close()
print("sent", flush=True)
"""
WAITING = r"""
import socket, sys, time
address, seconds = sys.argv[1], float(sys.argv[2])
end, port = time.monotonic() + seconds, 1024
# Waiting datagrams count against the buffer of their socket, which holds some hundreds.
senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
while time.monotonic() < end:
    for sender in senders:
        port = 1024 + (port - 1023) % 60000
        for _ in range(16):
            try:
                sender.sendto(b"x", socket.MSG_DONTWAIT, (address, port))
            except OSError:
                pass
"""


class Verifier(linked.LinkedCase):
    """A workload uses up what the verifier remembers and queues."""

    def setUp(self):
        super().setUp()
        self.workload.serve("udp", "::", linked.PORT)

    def busy(self, script, *arguments):
        return self.client.popen(
            [TRIRUN, "--label", "app=busy", "--", "/usr/bin/python3", "-c", script, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )

    def named(self, what):
        """The holder of most entries, as trirectl status names it."""
        crowded = self.client.status()["tokens"]["crowded"].get(what, {})
        return crowded.get("holder", "")

    def test_half_open_connections_of_one_reset_nobody_elses(self):
        threads = self.client.status()["tokens"]["threads"]
        with self.busy(HALF_OPEN, linked.STRANGER, str(threads * 16_384 * 3 // 2)) as flood:
            outcomes = []
            while flood.poll() is None:
                outcomes.append(self.friend.exchange("tcp", linked.SERVER, linked.PORT))
        outcomes += [self.friend.exchange("tcp", linked.SERVER, linked.PORT) for _ in range(20)]
        self.assertEqual(set(outcomes), {"ok"}, f"of {len(outcomes)}")
        self.assertRegex(self.named("handshakes"), "^(workload trirun-|a workload that has ended)")
        self.assertGreater(self.metric(self.client, 'trireme_crowded_total{what="handshakes"}'), 0)
        waiting.until(
            lambda: "too many handshakes of TCP connections"
            in "\n".join(self.client.status()["problems"]),
            "it is reported",
            seconds=3,
        )

    def test_waiting_datagrams_of_one_leave_others_theirs(self):
        with self.busy(WAITING, linked.STRANGER, "6") as flood:
            waiting.until(
                lambda: self.named("held_datagrams") != "" or self.full(), "all packets are held"
            )
            outcomes = [self.friend.exchange("udp", linked.SERVER, linked.PORT) for _ in range(20)]
            self.assertIsNone(flood.poll(), "others are served meanwhile")
            self.assertEqual(set(outcomes), {"ok"})
            self.assertRegex(self.named("held_datagrams"), "^workload trirun-")

    def full(self):
        return self.metric(self.client, 'trireme_handshakes_refused_total{reason="crowded"}') > 100


if __name__ == "__main__":
    unittest.main()
