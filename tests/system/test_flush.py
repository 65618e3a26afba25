# SPDX-License-Identifier: Apache-2.0
"""trirectl flush removes everything of trireme from the kernel."""

import unittest

from tests.system.host import TRIRECTL, HostCase


class Flush(HostCase):
    def test_flush_takes_everything_back_but_not_from_a_running_daemon(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        port = web.serve("tcp", "127.0.0.1")
        for runtime in (self.host.runtime, self.host.runtime + "-of-another"):
            done = self.host.run([TRIRECTL, "flush", "--runtime-dir", runtime])
            self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("may be running in this network namespace", done.stderr)
        self.assert_refused(plain.exchange("tcp", "127.0.0.1", port))
        self.host.stop()
        self.assert_refused(plain.exchange("tcp", "127.0.0.1", port))
        done = self.host.trirectl("flush")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("trireme", self.host.must(["nft", "list", "tables"]))
        self.assert_allowed(plain.exchange("tcp", "127.0.0.1", port))
        attributes = self.host.run(
            ["getfattr", "-m", "trusted.trireme", self.host.cgroups + web.cgroup()]
        )
        self.assertEqual(attributes.stdout, "")


if __name__ == "__main__":
    unittest.main()
