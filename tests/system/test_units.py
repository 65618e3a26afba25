# SPDX-License-Identifier: Apache-2.0
"""systemd units as workloads: by name and pattern, running or newly started, from their first
instruction."""

import random
import time
import unittest

from tests.system import waiting
from tests.system.host import LONG
from tests.system.lab import LabCase

SERVER = "[Service]\nExecStart=/usr/bin/busybox httpd -f -p {port} -h /srv\n"
IDENTITY = """
[[unit]]
name = "shop.service"
labels = {{ app = "shop" }}
[[unit]]
name = "db@*.service"
labels = {{ app = "db" }}
{more}
"""


class Units(LabCase):
    DOCKER = False
    FILES = (
        ("etc/systemd/system/shop.service", SERVER.format(port=6001)),
        ("etc/systemd/system/db@.service", SERVER.format(port="%i")),
        ("etc/systemd/system/late.service", SERVER.format(port=6003)),
        (
            "etc/systemd/system/asks.service",
            "[Service]\nType=oneshot\nStandardOutput=file:/run/asked\n"
            "ExecStart=/usr/bin/curl -s --max-time 3 http://127.0.0.1:6004/served\n",
        ),
        ("etc/trireme/identity.toml", IDENTITY.format(more="")),
    )

    def tearDown(self):
        self.lab.sh("systemctl stop shop late asks 'db@*'; systemctl reset-failed")
        waiting.until(
            lambda: self.lab.sh("trirectl status").returncode == 0, "the daemon runs", 30, 0.1
        )
        self.identity("")

    def identity(self, more):
        self.lab.write("etc/trireme/identity.toml", IDENTITY.format(more=more))
        self.lab.must("trirectl reload")

    def state(self, unit):
        return next((each["state"] for each in self.lab.workloads() if each["name"] == unit), None)

    def test_by_name(self):
        self.lab.must("systemctl start shop")
        self.assertEqual(self.state("shop.service"), "enforced")
        self.lab.await_served(6001, "app=shop")
        for labels in (None, "app=db"):
            self.assertEqual(self.lab.ask(6001, labels), "", labels)
        self.lab.must("systemctl stop shop")
        waiting.until(lambda: self.state("shop.service") is None, "it has ended")

    def test_by_pattern(self):
        self.lab.must("systemctl start db@6002")
        self.assertEqual(self.state("db@6002.service"), "enforced")
        self.lab.await_served(6002, "app=db")
        for labels in (None, "app=shop"):
            self.assertEqual(self.lab.ask(6002, labels), "", labels)

    def test_each_start_is_a_new_workload(self):
        for _ in range(5):
            self.lab.must("systemctl restart shop")
            self.assertEqual(self.state("shop.service"), "enforced")
            self.assertEqual(self.lab.ask(6001), "")
        self.lab.await_served(6001, "app=shop")

    def test_one_that_runs_already(self):
        self.lab.must("systemctl start late")
        self.lab.await_served(6003)
        self.identity('[[unit]]\nname = "late.service"\nlabels = { app = "late" }\n')
        waiting.until(lambda: self.state("late.service") == "enforced", "it is a workload")
        self.lab.await_served(6003, "app=late")
        self.assertEqual(self.lab.ask(6003), "")

    def test_the_first_instruction_is_held(self):
        """A unit that only makes a connection, which policy denies: in many starts, none is
        established."""
        self.lab.must("busybox httpd -p 6004 -h /srv")
        self.lab.await_served(6004)
        self.lab.sh("systemctl start asks")
        self.assertEqual(
            self.lab.must("cat /run/asked"), "served", "while the unit is not a workload"
        )
        self.identity('[[unit]]\nname = "asks.service"\nlabels = { app = "asks" }\n')
        waiting.until(
            lambda: "trireme" in self.lab.must("systemctl cat asks"), "the gate is in place"
        )
        for _ in range(20):
            self.lab.sh("rm -f /run/asked; systemctl start asks")
            self.assertEqual(self.lab.sh("cat /run/asked").stdout, "")

    def test_a_matched_unit_does_not_start_without_the_daemon(self):
        self.lab.must("systemctl start shop && systemctl stop shop")
        since = self.lab.must("date +%s")
        self.lab.must("systemctl stop trireme")
        stopped = self.lab.must(f"journalctl -b --since=@{since} -u trireme --no-pager")
        self.assertRegex(
            stopped,
            "until trireme runs again, these units do not start: .*db@.service.*shop.service",
        )
        self.assertNotIn("late.service", stopped)
        try:
            self.assertNotEqual(self.lab.sh("systemctl start shop").returncode, 0)
            self.assertIn(
                "shop.service is not started: cannot reach trireme",
                self.lab.must(f"journalctl -b --since=@{since} -u shop --no-pager"),
            )
            self.assertEqual(self.lab.ask(6001), "")
            self.lab.must("systemctl start late")
        finally:
            self.lab.start_trireme()
        self.lab.must("systemctl reset-failed shop; systemctl start shop")
        self.assertEqual(self.state("shop.service"), "enforced")

    def test_a_unit_that_waits_says_so_in_its_own_journal(self):
        """After a second. It starts when the daemon answers, and fails with the reason if the
        daemon ends instead."""
        self.lab.must("systemctl start shop && systemctl stop shop")
        for ending in ("CONT", "KILL"):
            since = self.lab.must("date +%s")
            daemon = self.lab.must("systemctl show -P MainPID trireme")
            self.lab.must(f"kill -STOP {daemon} && systemctl start --no-block shop")

            def journal(since=since):
                return self.lab.sh(f"journalctl -b --since=@{since} -u shop --no-pager").stdout

            waiting.until(
                lambda journal=journal: "shop.service waits for trireme to enforce it" in journal(),
                "the wait is in the journal",
                10,
            )
            self.assertEqual(self.lab.must("systemctl show -P ActiveState shop"), "activating")
            self.assertEqual(self.lab.ask(6001), "")
            self.lab.must(f"kill -{ending} {daemon}")
            if ending == "CONT":
                waiting.until(lambda: self.state("shop.service") == "enforced", "it is started", 10)
                self.lab.must("systemctl stop shop")
            else:
                waiting.until(
                    lambda: self.lab.must("systemctl show -P ActiveState shop") == "failed",
                    "it has failed",
                    10,
                )
                self.assertIn("shop.service is not started: trireme hung up", journal())

    def test_killed_at_any_moment_no_unit_is_open(self):
        ports = range(6100, 6100 + (50 if LONG else 8))
        prober = self.lab.prober(*ports)
        started = 0
        for port in ports:
            self.lab.must("systemctl kill -s KILL trireme")
            time.sleep(random.random() / 2)  # the unit starts at a random moment of the next start
            started += self.lab.sh(f"systemctl start db@{port}").returncode == 0
        print(f"{started} of {len(ports)} started at once", flush=True)
        waiting.until(
            lambda: self.lab.sh("trirectl status").returncode == 0,
            "systemd has restarted it",
            30,
            0.1,
        )
        for port in ports:
            self.lab.must(f"systemctl reset-failed; systemctl start db@{port}")
            self.assertEqual(self.state(f"db@{port}.service"), "enforced")
        self.lab.await_served(ports[-1], "app=db")
        self.assertEqual(self.lab.end_prober(prober), 0)

    def test_the_gate_outlives_a_reboot(self):
        self.lab.must("systemctl start shop && systemctl stop shop trireme")
        self.lab.must(
            "rm -rf /run/trireme /run/systemd/system/* && systemctl daemon-reload"
        )  # the state after a reboot
        try:
            self.assertNotEqual(self.lab.sh("systemctl start shop").returncode, 0)
            self.assertEqual(self.lab.ask(6001), "")
        finally:
            self.lab.start_trireme()
        self.lab.must("systemctl reset-failed shop; systemctl start shop")
        self.assertEqual(self.state("shop.service"), "enforced")
        self.lab.write("etc/trireme/identity.toml", "")
        self.lab.must("trirectl reload")
        waiting.until(
            lambda: "trireme" not in self.lab.must("systemctl cat shop"),
            "the gate is removed with the entry",
        )

    def test_a_unit_that_nothing_matches_is_left_alone(self):
        self.lab.must("systemctl start late")
        self.lab.await_served(6003)
        self.assertIsNone(self.state("late.service"))
        self.assertNotIn("trireme", self.lab.must("systemctl cat late"))


if __name__ == "__main__":
    unittest.main()
