# SPDX-License-Identifier: Apache-2.0
"""The daemon restarts with invalid files: the last valid ones stay in force, also for workloads
that start meanwhile."""

import os
import signal
import unittest

from tests.system import waiting
from tests.system.host import TRIRECTL, TRIREMED, Host, HostCase

GOOD = '[[allow]]\nfrom = "app=web"\nto = "app=db"\n'


class LastGood(HostCase):
    POLICY = GOOD

    def test_a_crash_with_bad_files_on_disk(self):
        web, other, db = (self.host.labelled(f"app={name}") for name in ("web", "other", "db"))
        port = db.serve("tcp", "127.0.0.1")
        self.host.write("policy.toml", GOOD + "[[allow]]\nform = 1\n")
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the daemon has loaded it")
        self.host.restart(signal.SIGKILL)
        self.assertIn("policy.toml:5:1: error", "\n".join(self.host.status()["policy"]["errors"]))
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", port))
        self.assert_refused(other.exchange("tcp", "127.0.0.1", port))
        newcomer = self.host.labelled("app=db")
        fresh = newcomer.serve("tcp", "127.0.0.1")
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", fresh))
        self.assert_refused(other.exchange("tcp", "127.0.0.1", fresh))
        self.host.policy("")
        self.assertEqual(self.host.status()["policy"]["errors"], [])
        self.assert_refused(web.exchange("tcp", "127.0.0.1", fresh))


class Keys(HostCase):
    def test_what_is_wrong_with_a_file_of_trust_is_mended_there(self):
        """No other file is saved. A change of the file's mode, or its creation, is enough."""
        secret, identity = self.host.config + "/psk", '[trust]\npsk_file = "psk"\n'
        self.host.must([TRIRECTL, "pki", "psk", secret])
        for spoil, repair in (
            (lambda: os.chmod(secret, 0o644), lambda: os.chmod(secret, 0o600)),
            (
                lambda: os.rename(secret, secret + ".away"),
                lambda: os.rename(secret + ".away", secret),
            ),
        ):
            self.host.write("identity.toml", "")
            waiting.until(lambda: not self.host.status()["policy"]["errors"], "it is valid")
            spoil()
            self.host.write("identity.toml", identity)
            waiting.until(lambda: self.host.status()["policy"]["errors"], "the error is reported")
            repair()
            waiting.until(
                lambda: not self.host.status()["policy"]["errors"], "the file is read again"
            )


class FirstStart(unittest.TestCase):
    def test_without_a_last_good_it_does_not_start(self):
        host = Host("form = 1\n", start=False)
        self.addCleanup(host.close)
        done = host.run(
            [
                TRIREMED,
                "--config-dir",
                host.config,
                "--runtime-dir",
                host.runtime,
                "--state-dir",
                host.state,
                "--cgroup-driver",
                "cgroupfs",
            ]
        )
        self.assertEqual(done.returncode, 78, "systemd does not start it again")
        self.assertIn("policy.toml:1:1: error", done.stderr)
        self.assertFalse(os.path.exists(host.runtime + "/last-good.json"))


if __name__ == "__main__":
    unittest.main()
