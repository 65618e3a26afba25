# SPDX-License-Identifier: Apache-2.0
"""Tests the daemon on a kernel that is too old for it. test_older_kernel.py boots one."""

import unittest

from tests.system import host, waiting


class TooOld(unittest.TestCase):
    def test_it_does_not_start_and_says_why(self):
        here = host.Host(start=False)
        self.addCleanup(here.close)
        done = here.run(here.daemon_command(), timeout=30 * waiting.PATIENCE)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot match the cgroup of a packet's socket", done.stderr)
        self.assertIn("Linux 5.13 or later", done.stderr)
        self.assertNotIn("trireme", here.must(["nft", "list", "tables"]))
        self.assertEqual(here.trirun("app=web", ["true"]).returncode, 125)
        server, client = here.plain(), here.plain()
        for kind in ("tcp", "udp"):
            port = server.serve(kind, "127.0.0.1")
            self.assertEqual(client.exchange(kind, "127.0.0.1", port), "ok", kind)


if __name__ == "__main__":
    unittest.main()
