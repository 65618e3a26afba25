# SPDX-License-Identifier: Apache-2.0
"""A saved policy is applied completely or not at all; open flows are re-evaluated."""

import os
import re
import signal
import threading
import unittest

from tests.system import waiting
from tests.system.host import LONG, HostCase

OPEN = '[[allow]]\nfrom = "app=web"\nto = "app=db"\n'


class Saving(HostCase):
    def setUp(self):
        super().setUp()
        self.host.explicit_reload("")
        self.web, self.db = self.host.labelled("app=web"), self.host.labelled("app=db")
        self.port = self.db.serve("tcp", "127.0.0.1")
        self.assert_refused(self.knock())

    def knock(self):
        return self.web.exchange("tcp", "127.0.0.1", self.port)

    def await_open(self, how):
        waiting.until(lambda: self.knock() == "ok", f"open after {how}", 5)

    def await_closed(self, how):
        waiting.until(lambda: self.knock() == "ECONNREFUSED", f"closed after {how}", 5)

    def path(self, name="policy.toml"):
        return f"{self.host.config}/{name}"

    def test_rename_over(self):
        self.host.write("policy.toml", OPEN)
        self.await_open("rename")
        self.host.write("policy.toml", "")
        self.await_closed("rename")

    def test_write_in_place(self):
        for text, wait in ((OPEN, self.await_open), ("", self.await_closed)):
            with open(self.path(), "w", encoding="utf-8") as file:
                file.write(text)
            wait("writing in place")

    def test_a_file_that_is_written_in_pieces(self):
        """Half a file is never in force; the complete file is."""
        with open(self.path(), "w", encoding="utf-8") as file:
            for piece in re.findall(r".{1,9}", OPEN, re.S):
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        self.await_open("the last piece")
        self.assertEqual(self.host.status()["policy"]["errors"], [])

    def test_drop_ins_come_and_go(self):
        self.host.write("policy.d/10-open.toml", OPEN)
        self.await_open("a new file in policy.d")
        os.unlink(self.path("policy.d/10-open.toml"))
        self.await_closed("its deletion")

    def test_symlink_swap(self):
        """As Kubernetes mounts ConfigMaps: the file is a symbolic link through ..data, and ..data
        is replaced by rename."""
        self.addCleanup(self.host.write, "policy.toml", "")
        for generation, text, wait in (
            (1, OPEN, self.await_open),
            (2, "", self.await_closed),
            (3, OPEN, self.await_open),
        ):
            os.mkdir(self.path(f"..{generation}"))
            with open(self.path(f"..{generation}/policy.toml"), "w", encoding="utf-8") as file:
                file.write(text)
            os.symlink(f"..{generation}", self.path("..data_tmp"))
            os.rename(self.path("..data_tmp"), self.path("..data"))
            if generation == 1:
                os.symlink("..data/policy.toml", self.path("policy.new"))
                os.rename(self.path("policy.new"), self.path())
            wait(f"swap {generation}")

    def test_a_deleted_policy_is_the_default_policy_or_an_error(self):
        """Deleting the policy never allows more: either the deleted rules no longer allow anything,
        or the previous rules stay in force and the status says why."""
        self.host.policy(OPEN)
        self.await_open("a rule")
        before = self.host.generation()
        os.unlink(self.path())
        waiting.until(
            lambda: self.host.status()["policy"]["errors"] or self.host.generation() > before,
            "the deletion is noticed",
        )
        if self.host.status()["policy"]["errors"]:
            self.assert_allowed(self.knock())
        else:
            self.assert_refused(self.knock())
        self.host.write("policy.toml", OPEN)
        self.await_open("it is back")
        self.assertEqual(self.host.status()["policy"]["errors"], [])

    def test_a_hundred_saves_in_a_second_are_few_reloads(self):
        before = self.host.generation()
        for number in range(100):
            self.host.write("policy.toml", f"# save {number}\n")
        self.host.write("policy.toml", OPEN)
        self.await_open("the last of them")
        self.assertLessEqual(self.host.generation() - before, 10)

    def test_errors_keep_the_old_policy_and_name_the_place(self):
        self.host.policy(OPEN)
        before = self.host.generation()
        self.host.write(
            "policy.toml",
            '[[allow]]\nform = "app=web"\nto = "app=db"\n[[deny]]\nfrom = "x in ("\nto = "*"\n',
        )
        errors = waiting.until(
            lambda: self.host.status()["policy"]["errors"], "the status shows the error"
        )
        self.assertTrue(
            any(
                re.match(r"policy\.toml:2:1: error: unknown key 'form'.*did you mean 'from'", error)
                for error in errors
            ),
            errors,
        )
        self.assertTrue(any(error.startswith("policy.toml:5:") for error in errors), errors)
        self.assertEqual(self.host.generation(), before)
        self.assert_allowed(self.knock())
        self.assertIn("policy.toml:2:1", self.host.log_text())
        shown = self.host.trirectl("status").stdout
        self.assertIn("policy.toml:2:1", shown)
        self.host.write("policy.toml", OPEN)
        waiting.until(lambda: not self.host.status()["policy"]["errors"], "mended")

    def test_a_policy_that_fails_its_own_test_is_refused(self):
        self.host.policy(OPEN)
        before = self.host.generation()
        self.host.write(
            "policy.toml",
            '[[test]]\nfrom = { app = "web" }\nto = { app = "db" }\nport = "tcp/5432"\nexpect = "allow"\n',
        )
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the status shows the error")
        self.assertEqual(self.host.generation(), before)
        self.assert_allowed(self.knock())

    def test_trirectl_reload_returns_the_result(self):
        before = self.host.generation()
        self.host.write("policy.toml", OPEN)
        done = self.host.trirectl("reload", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_allowed(self.knock(), "in force when the command returns")
        self.assertGreater(self.host.generation(), before)
        self.host.write("policy.toml", "nonsense\n")
        done = self.host.trirectl("reload")
        self.assertEqual(done.returncode, 1)
        self.assertIn("policy.toml:1:", done.stderr + done.stdout)
        self.assert_allowed(self.knock())

    def test_hangup_reloads(self):
        before = self.host.generation()
        self.host.daemon.send_signal(signal.SIGHUP)
        waiting.until(lambda: self.host.generation() > before, "a new generation")
        self.assertIsNone(self.host.daemon.poll())

    def test_identity_is_reloaded_too(self):
        self.host.policy('[[allow]]\nfrom = "app=web, zone=eu"\nto = "app=db"\n')
        self.assert_refused(self.knock())
        self.addCleanup(self.host.write, "identity.toml", "")
        self.host.write("identity.toml", '[host]\nlabels = { zone = "eu" }\n')
        newcomer = waiting.until(self.labelled_eu, "new workloads have the label of the host")
        self.assert_allowed(newcomer.exchange("tcp", "127.0.0.1", self.port))

    def labelled_eu(self):
        newcomer = self.host.labelled("app=web")
        mine = [each for each in self.host.workloads() if each["cgroup"] == newcomer.cgroup()]
        return newcomer if mine[0]["labels"].get("zone") == "eu" else None


class LiveFlows(HostCase):
    def connect(self, client, server, kind="tcp"):
        port = server.serve(kind, "127.0.0.1")
        client.open("c", kind, "127.0.0.1")
        self.assert_allowed(client.connect("c", "127.0.0.1", port))
        self.assert_allowed(self.echo(client))

    @staticmethod
    def echo(client, timeout=1.0):
        outcome = client.send_text("c", "ping")
        if outcome != "ok":
            return outcome
        answer = client.receive("c", timeout=timeout)
        return "ok" if answer.get("text") == "ping" else answer.get("error", "end")

    def test_what_is_allowed_no_longer_ends_and_nothing_else(self):
        self.host.explicit_reload(OPEN + '[[allow]]\nfrom = "app=web"\nto = "app=cache"\n')
        for kind in ("tcp", "udp"):
            with self.subTest(kind):
                db, cache = self.host.labelled("app=db"), self.host.labelled("app=cache")
                revoked, kept, same = (self.host.labelled("app=web") for _ in range(3))
                self.connect(revoked, db, kind)
                self.connect(kept, cache, kind)
                self.connect(same, revoked, kind)
                self.host.explicit_reload('[[allow]]\nfrom = "app=web"\nto = "app=cache"\n')
                waiting.until(lambda: self.echo(revoked, 0.3) != "ok", "the flow to app=db ends", 3)
                for _ in range(5):
                    self.assertNotEqual(self.echo(revoked, 0.1), "ok")
                    self.assert_allowed(self.echo(kept), "a flow that stays allowed")
                    self.assert_allowed(self.echo(same), "a flow that the baseline allows")
                self.host.explicit_reload(OPEN + '[[allow]]\nfrom = "app=web"\nto = "app=cache"\n')

    def test_pings_and_zones_keep_no_flow_from_its_end(self):
        """Conntrack entries whose key has more than addresses and ports: an ICMP id, and the zone
        that a router assigns."""
        self.host.nft(
            "table inet zones {\nchain out {\ntype filter hook output priority raw\nct zone set 7\n}\n"
            "chain pre {\ntype filter hook prerouting priority raw\nct zone set 7\n}\n}"
        )
        self.addCleanup(self.host.nft, "delete table inet zones")
        self.host.explicit_reload('[[allow]]\nfrom = "app=web"\nto = ["@host", "app=db"]\n')
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        self.connect(web, db)
        for address in ("127.0.0.1", "::1"):
            self.assert_allowed(web.ping(address))
        self.host.explicit_reload("")
        self.assertEqual(self.host.status()["problems"], [])
        waiting.until(lambda: self.echo(web, 0.2) != "ok", "the flow ends", 3)

    def test_many_reloads_under_load(self):
        """What both policies allow never fails, what both deny never passes, and each reload takes
        effect at once."""
        both = '[[allow]]\nfrom = "app=a"\nto = "app=s"\n'
        first, second = (
            both + '[[allow]]\nfrom = "app=b"\nto = "app=s"\n',
            both + '[[allow]]\nfrom = "app=c"\nto = "app=s"\n',
        )
        self.host.explicit_reload(first)
        server = self.host.labelled("app=s")
        ports = {"tcp": server.serve("tcp", "127.0.0.1"), "udp": server.serve("udp", "127.0.0.1")}
        steady = {kind: self.host.labelled("app=a") for kind in ports}
        never = {kind: self.host.labelled("app=never") for kind in ports}
        plain = self.host.plain()
        b, c = self.host.labelled("app=b"), self.host.labelled("app=c")
        for kind, port in ports.items():
            steady[kind].probe("p", kind, "127.0.0.1", port, timeout=3.0)
            never[kind].probe("p", kind, "127.0.0.1", port)
        plain.probe("p", "tcp", "127.0.0.1", ports["tcp"])
        for number in range(60 if LONG else 20):
            self.host.explicit_reload(second if number % 2 == 0 else first)
            allowed, refused = (c, b) if number % 2 == 0 else (b, c)
            self.assert_allowed(
                allowed.exchange("tcp", "127.0.0.1", ports["tcp"]), f"reload {number}"
            )
            self.assert_refused(
                refused.exchange("tcp", "127.0.0.1", ports["tcp"]), f"reload {number}"
            )
        for kind in ports:
            outcome = steady[kind].probe_end("p", ok=100)
            self.assertEqual(outcome["failed"], 0, f"{kind}: {outcome}")
            self.assertGreaterEqual(outcome["ok"], 100, f"{kind}: {outcome}")
            outcome = never[kind].probe_end("p", failed=100)
            self.assertEqual(outcome["ok"], 0, f"{kind}: {outcome}")
            self.assertGreaterEqual(outcome["failed"], 100, f"{kind}: {outcome}")
        self.assertEqual(plain.probe_end("p")["ok"], 0)

    def test_saves_and_launches_at_once(self):
        """Workloads that start while policy is saved all the time are always enforced."""
        self.host.explicit_reload(OPEN)
        stop = threading.Event()
        faults = []

        def save():
            number = 0
            while not stop.is_set():
                number += 1
                self.host.write("policy.toml", OPEN + f"# {number}\n")

        saver = threading.Thread(target=save)
        db = self.host.labelled("app=db")
        port = db.serve("tcp", "127.0.0.1")
        saver.start()
        try:
            for _ in range(40 if LONG else 15):
                web = self.host.labelled("app=web")
                outcome = web.exchange("tcp", "127.0.0.1", port)
                if outcome != "ok":
                    faults.append(outcome)
                web.end()
        finally:
            stop.set()
            saver.join()
        self.assertEqual(faults, [])


if __name__ == "__main__":
    unittest.main()
