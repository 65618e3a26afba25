# SPDX-License-Identifier: Apache-2.0
"""Kernels that are too old, for everything or for one feature: the start reports what is not
available."""

import json
import unittest

from tests.system import undo, vm, waiting
from tests.system.host import LONG, ROOT, TRIRECTL, Host


class TooOld(unittest.TestCase):
    @unittest.skipUnless(LONG, "long: boots the kernel of Debian 11")
    def test_linux_5_10(self):
        vm.require_programs(self)
        scratch = undo.Undo()
        self.addCleanup(scratch.run)
        kernel = vm.fetch_kernel(ROOT + "/build/debian-11-kernel", "bullseye")
        archive = vm.make_initramfs(kernel, scratch.directory, ["tests.system.too_old"])
        code, text = vm.boot(kernel, archive, scratch.directory + "/console", 900)
        print(text[-10000:], flush=True)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"\b5\.10\.\d+")


class TooOldForTokens(unittest.TestCase):
    def test_policy_on_one_host_goes_without(self):
        """The daemon checks only the version, so a kernel that claims to be older is enough."""
        host = Host('[[allow]]\nfrom = "app=web"\nto = "app=db"\n', start=False)
        self.addCleanup(host.close)
        host.daemon_wrapper = ["setarch", "--uname-2.6"]
        host.start()
        self.assertRegex(" ".join(host.status()["problems"]), r"Linux 5\.18 or later .* 2\.6\.")
        web, db, other = (host.labelled(f"app={name}") for name in ("web", "db", "other"))
        for kind in ("tcp", "udp"):
            port = db.serve(kind, "127.0.0.1")
            self.assertEqual(web.exchange(kind, "127.0.0.1", port), "ok")
            self.assertNotEqual(other.exchange(kind, "127.0.0.1", port), "ok")
        self.without_bytes(host, web, db)

    def without_bytes(self, host, web, db):
        """Before Linux 6.9, reading the bytes of a connection can block the daemon."""
        port = db.serve("tcp", "127.0.0.1")
        self.assertEqual(web.open("c", "tcp", "127.0.0.1"), "ok")
        self.assertEqual(web.connect("c", "127.0.0.1", port), "ok")

        def open_pair():
            answer = json.loads(host.must([TRIRECTL, "top", "--json"]))
            pairs = {(pair["from"], pair["to"]): pair for pair in answer["pairs"]}
            pair = pairs.get(("app=web", "app=db"), {})
            return answer["complete"] and pair.get("connections") == 1 and pair

        self.assertNotIn("bytes", waiting.until(open_pair, "the connection", 20, 0.2))


if __name__ == "__main__":
    unittest.main()
