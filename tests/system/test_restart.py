# SPDX-License-Identifier: Apache-2.0
"""The daemon dies, hangs, stops and comes back: what was refused stays refused, what was authorized
continues."""

import os
import signal
import unittest

from tests.system import waiting
from tests.system.host import TRIREMED, Host, HostCase

OPEN = '[[allow]]\nfrom = "app=web"\nto = "app=db"\n'


class Down(HostCase):
    POLICY = OPEN

    def setUp(self):
        super().setUp()
        if self.host.daemon.poll() is not None:
            self.host.start()
        waiting.until(lambda: not self.host.workloads(), "the last test's workloads are gone")
        self.host.explicit_reload(OPEN)
        self.web, self.same, self.db = (
            self.host.labelled(f"app={name}") for name in ("web", "web", "db")
        )
        self.other, self.plain = self.host.labelled("app=other"), self.host.plain()
        self.ports = {kind: self.db.serve(kind, "127.0.0.1") for kind in ("tcp", "udp")}

    def connect(self):
        for kind, port in self.ports.items():
            self.assert_allowed(self.web.open(kind, kind, "127.0.0.1"))
            self.assert_allowed(self.web.connect(kind, "127.0.0.1", port))

    def assert_live(self, when):
        for kind in self.ports:
            self.assert_allowed(self.web.send_text(kind, "still"), f"{kind} {when}")
            self.assertEqual(self.web.receive(kind), {"text": "still"}, f"{kind} {when}")

    def assert_verdicts(self, when):
        for kind, port in self.ports.items():
            self.assert_allowed(self.web.exchange(kind, "127.0.0.1", port), f"{kind} {when}")
            for stranger in (self.other, self.plain):
                self.assert_refused(stranger.exchange(kind, "127.0.0.1", port), f"{kind} {when}")
            foreign = self.plain.serve(kind, "127.0.0.1")
            self.assert_refused(self.web.exchange(kind, "127.0.0.1", foreign), f"{kind} {when}")
            self.assert_allowed(
                self.plain.exchange(kind, "127.0.0.1", foreign), f"{kind} among others {when}"
            )

    def test_killed_and_started_again(self):
        self.connect()
        self.assert_verdicts("before")
        before = {each["name"]: each for each in self.host.workloads()}
        self.host.stop(signal.SIGKILL)
        self.assert_live("while it is dead")
        self.assert_verdicts("while it is dead")
        self.host.start()
        self.assert_live("after its return")
        self.assert_verdicts("after its return")
        after = {each["name"]: each for each in self.host.workloads()}
        self.assertEqual(
            {name: each["labels"] for name, each in before.items()},
            {name: each["labels"] for name, each in after.items()},
        )
        self.assertEqual({each["state"] for each in after.values()}, {"enforced"})

    def test_stopped_keeps_the_rules(self):
        self.connect()
        self.host.stop(signal.SIGTERM)
        self.assertEqual(self.host.daemon.returncode, 0)
        self.assert_live("after a stop")
        self.assert_verdicts("after a stop")

    def test_hanging(self):
        self.connect()
        self.host.daemon.send_signal(signal.SIGSTOP)
        try:
            self.assert_live("while it hangs")
            self.assert_verdicts("while it hangs")
        finally:
            self.host.daemon.send_signal(signal.SIGCONT)
        self.assert_verdicts("when it goes on")

    def test_there_is_no_gap_while_it_starts(self):
        """The table is replaced while probes run: no attempt of an unlabeled process passes."""
        probes = {"web": self.web, "plain": self.plain, "other": self.other}
        for kind, port in self.ports.items():
            for prober in probes.values():
                prober.probe(kind, kind, "127.0.0.1", port, timeout=3.0)
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            self.host.restart(number)
        for kind in self.ports:
            outcomes = {
                name: prober.probe_end(
                    kind, ok=500 if name == "web" else 0, failed=0 if name == "web" else 50
                )
                for name, prober in probes.items()
            }
            self.assertGreaterEqual(outcomes["web"]["ok"], 500, f"{kind} {outcomes}")
            # What arrives during the replacement may be refused but is never allowed: for
            # milliseconds, half a second on an emulated processor.
            self.assertLess(
                outcomes["web"]["longest"], 0.5 * waiting.PATIENCE, f"{kind} {outcomes}"
            )
            for name in ("plain", "other"):
                self.assertEqual(outcomes[name]["ok"], 0, f"{kind} {outcomes}")
                self.assertGreaterEqual(outcomes[name]["failed"], 50, f"{kind} {outcomes}")

    def test_nothing_is_launched_while_it_is_dead(self):
        self.host.stop(signal.SIGKILL)
        mark = self.host.undo.directory + "/ran"
        done = self.host.trirun("app=web", ["touch", mark])
        self.assertEqual(done.returncode, 125)
        self.assertIn("cannot reach trireme", done.stderr)
        self.assertFalse(os.path.exists(mark))

    def test_workloads_that_end_while_it_is_dead_are_forgotten(self):
        path = self.host.cgroups + self.web.cgroup()
        self.host.stop(signal.SIGKILL)
        self.web.end()
        self.host.agents.remove(self.web)
        self.host.start()
        waiting.until(lambda: not os.path.exists(path), "its cgroup is removed")
        waiting.until(lambda: len(self.host.workloads()) == 3, "it is no longer a workload")

    def test_a_policy_that_changes_while_it_is_dead_is_applied_to_live_flows(self):
        self.connect()
        self.host.stop(signal.SIGKILL)
        self.host.write("policy.toml", "")
        self.host.start()
        for kind, port in self.ports.items():

            def echoed(kind=kind):
                return (
                    self.web.send_text(kind, "x") == "ok"
                    and self.web.receive(kind, timeout=0.2).get("text") == "x"
                )

            waiting.until(lambda: not echoed(), f"the {kind} flow ends", 3)
            self.assert_refused(self.web.exchange(kind, "127.0.0.1", port))

    def test_an_unknown_cgroup_in_the_strict_slice_is_denied_while_it_is_dead(self):
        port = self.plain.serve("tcp", "127.0.0.1")
        stranger_port = self.same.serve("tcp", "127.0.0.1")
        self.host.stop(signal.SIGKILL)
        unknown = f"{self.host.cgroups}{self.host.slice}/unknown.scope"
        os.mkdir(unknown)
        wrapper = ["sh", "-c", f'echo $$ >{unknown}/cgroup.procs && exec "$@"', "sh"]
        inside = self.host.plain(wrapper)
        self.assertNotEqual(inside.exchange("tcp", "127.0.0.1", port, timeout=0.5), "ok")
        self.assertNotEqual(inside.exchange("tcp", "127.0.0.1", stranger_port, timeout=0.5), "ok")
        self.assertNotEqual(
            self.plain.exchange("tcp", "127.0.0.1", inside.serve("tcp", "127.0.0.1"), timeout=0.5),
            "ok",
        )

    def test_two_daemons_do_not_share_an_instance(self):
        second = self.host.run(self.host.daemon.args[self.host.daemon.args.index(TRIREMED) :])
        self.assertEqual(second.returncode, 1, second.stderr)
        self.assertRegex(second.stderr, "triremed: .*(runs|running)")
        self.assert_verdicts("after the attempt")


class Ended(HostCase):
    def elements(self):
        """The elements of every map that has numbers of workloads."""
        return {
            name: self.host.must(["nft", "list", "map", "inet", "trireme", name])
            for name in ("workloads", "groups", "classes", "source", "destination")
        }

    def test_ended_workloads_leave_nothing(self):
        before = self.elements()
        workloads = [self.host.labelled(f"app=w{number},n={number}") for number in range(20)]
        port = workloads[0].serve("tcp", "127.0.0.1")
        self.assert_refused(workloads[1].exchange("tcp", "127.0.0.1", port))
        self.assertNotEqual(self.elements(), before)
        paths = [self.host.cgroups + each.cgroup() for each in workloads]
        self.host.kill_agents()
        waiting.until(lambda: not self.host.workloads(), "all have ended")
        waiting.until(lambda: self.elements() == before, "the kernel's sets are as before")
        self.assertEqual([path for path in paths if os.path.exists(path)], [])

    def test_numbers_are_not_inherited_after_a_restart(self):
        """If a new workload got the old number of one that has ended, it would inherit its open
        flows."""
        first, second = self.host.labelled("app=a"), self.host.labelled("app=b")
        self.host.restart()
        third = self.host.labelled("app=c")
        numbers = {each["labels"]["app"]: each["identity"] for each in self.host.workloads()}
        self.assertEqual(len(set(numbers.values())), 3, numbers)
        port = first.serve("tcp", "127.0.0.1")
        for other in (second, third):
            self.assert_refused(other.exchange("tcp", "127.0.0.1", port))


class Older(unittest.TestCase):
    """Flows that are older than the table."""

    def test_an_older_flow_of_a_workload_is_cut_and_others_are_not(self):
        host = Host(start=False)
        self.addCleanup(host.close)
        server, client = host.plain(), host.plain()
        port = server.serve("tcp", "127.0.0.1")
        self.assertEqual(client.open("stays", "tcp", "127.0.0.1"), "ok")
        self.assertEqual(client.connect("stays", "127.0.0.1", port), "ok")
        host.start()
        self.assertEqual(client.send_text("stays", "x"), "ok")
        self.assertEqual(client.receive("stays"), {"text": "x"})

    def test_a_table_that_is_gone_opens_nothing_between_local_sockets(self):
        """The gate continues to decide by what it knows, without a daemon and without a table."""
        host = Host()
        self.addCleanup(host.close)
        web, same, plain = host.labelled("app=web"), host.labelled("app=web"), host.plain()
        port = web.serve("tcp", "127.0.0.1")
        host.stop()
        host.must(["nft", "delete", "table", "inet", "trireme"])
        self.assertEqual(plain.exchange("tcp", "127.0.0.1", port, timeout=0.5), "timeout")
        self.assertEqual(same.exchange("tcp", "127.0.0.1", port), "ok")
        host.start()
        self.assertEqual(plain.exchange("tcp", "127.0.0.1", port), "ECONNREFUSED")
        self.assertEqual(same.exchange("tcp", "127.0.0.1", port), "ok")


if __name__ == "__main__":
    unittest.main()
