"""Files that are not valid when the daemon comes back: the last ones that were stay in force, for whatever starts meanwhile too."""

import os
import signal
import unittest

from tests.system import waiting
from tests.system.host import TRIREMED, Host, HostCase

GOOD = '[[allow]]\nfrom = "app=web"\nto = "app=db"\n'


class LastGood(HostCase):
    POLICY = GOOD

    def test_a_crash_with_bad_files_on_disk(self):
        web, other, db = (self.host.labelled(f"app={name}") for name in ("web", "other", "db"))
        port = db.serve("tcp", "127.0.0.1")
        self.host.write("policy.toml", GOOD + "[[allow]]\nform = 1\n")
        waiting.until(lambda: self.host.status()["policy"]["errors"], "the daemon has seen it")
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


class FirstStart(unittest.TestCase):
    def test_without_a_last_good_it_does_not_start(self):
        host = Host("form = 1\n", start=False)
        self.addCleanup(host.close)
        done = host.run([TRIREMED, "--config-dir", host.config, "--runtime-dir", host.runtime, "--cgroup-driver", "cgroupfs"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("policy.toml:1:1: error", done.stderr)
        self.assertFalse(os.path.exists(host.runtime + "/last-good.json"))


if __name__ == "__main__":
    unittest.main()
