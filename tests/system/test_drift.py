# SPDX-License-Identifier: Apache-2.0
"""Another program changes table inet trireme while the daemon runs. The daemon replaces the table
and reports the change."""

import signal
import subprocess
import unittest

from tests.system import waiting
from tests.system.host import HostCase


class Drift(HostCase):
    def setUp(self):
        super().setUp()
        self.web, self.same, self.plain = (
            self.host.labelled("app=web"),
            self.host.labelled("app=web"),
            self.host.plain(),
        )
        self.port = self.web.serve("tcp", "127.0.0.1")

    def repairs(self):
        line = next(
            line
            for line in self.host.trirectl("metrics").stdout.splitlines()
            if line.startswith("trireme_table_repairs_total ")
        )
        return int(line.split()[1])

    def change(self, *command):
        """Runs an nft command and waits until the daemon has repaired the table."""
        before = self.repairs()
        self.host.must(["nft", *command])
        waiting.until(lambda: self.repairs() > before, "the table is repaired", 5)

    def assert_enforced(self):
        self.assert_refused(self.plain.exchange("tcp", "127.0.0.1", self.port))
        self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))

    def test_a_flushed_ruleset_comes_back(self):
        self.assert_allowed(self.same.open("c", "tcp", "127.0.0.1"))
        self.assert_allowed(self.same.connect("c", "127.0.0.1", self.port))
        self.change("flush", "ruleset")
        self.assert_enforced()
        self.assert_allowed(self.same.send_text("c", "still here"))
        self.assertEqual(self.same.receive("c"), {"text": "still here"})
        (problem,) = self.host.status()["problems"]
        self.assertIn("changed by nft (pid ", problem)

    def test_without_the_table_local_traffic_is_judged_all_the_same(self):
        """By the gate, at the sockets. The table only makes refusals immediate and visible."""
        self.host.daemon.send_signal(signal.SIGSTOP)
        self.addCleanup(self.host.daemon.send_signal, signal.SIGCONT)
        self.host.must(["nft", "flush", "ruleset"])
        self.assert_allowed(self.plain.open("c", "tcp", "127.0.0.1"))
        self.assert_silent(self.plain.connect("c", "127.0.0.1", self.port, timeout=0.5))
        self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))
        self.host.daemon.send_signal(signal.SIGCONT)
        waiting.until(
            lambda: self.plain.exchange("tcp", "127.0.0.1", self.port) == "ECONNREFUSED",
            "the table exists again",
        )

    def test_lesser_changes_are_undone_as_well(self):
        for command in (
            ["flush", "chain", "inet", "trireme", "input"],
            ["delete", "table", "inet", "trireme"],
            ["insert", "rule", "inet", "trireme", "input", "accept"],
            ["flush", "map", "inet", "trireme", "workloads"],
        ):
            self.change(*command)
            self.assert_enforced()

    def test_changes_of_other_tables_and_our_own_are_none(self):
        before = self.repairs()
        self.host.nft("table inet other { }")
        self.host.nft("delete table inet other")
        self.host.labelled("app=new")
        self.host.explicit_reload('[[allow]]\nfrom = "app=a"\nto = "app=b"\n')
        self.assertEqual(self.repairs(), before)  # has read its events before it answers

    def test_a_table_that_cannot_be_written_is_told_until_it_can(self):
        """Another program owns a table with our name. Until it ends, the kernel refuses trireme's
        changes."""
        self.host.must(["nft", "delete", "table", "inet", "trireme"])
        with self.host.popen(
            ["nft", "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as owner:
            owner.stdin.write(
                "add table inet trireme; delete table inet trireme; add table inet trireme { flags owner; }\n"
            )
            owner.stdin.flush()
            waiting.until(
                lambda: any("cannot rewrite" in line for line in self.host.status()["problems"]),
                "the failure is reported",
                5,
            )
            refused = self.host.trirun("app=late", ["true"])
            self.assertEqual(refused.returncode, 125, refused.stderr)
            owner.stdin.close()
            owner.wait(10)
        waiting.until(
            lambda: not any("cannot rewrite" in line for line in self.host.status()["problems"]),
            "the table is written",
            5,
        )
        self.assert_enforced()


if __name__ == "__main__":
    unittest.main()
