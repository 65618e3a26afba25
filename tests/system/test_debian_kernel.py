# SPDX-License-Identifier: Apache-2.0
"""The local path, the token path, datagrams and names on Debian's own kernel, with the cgroupfs
driver. That kernel has the native `queue` of nf_tables."""

import unittest

from tests.system import undo, vm
from tests.system.host import LONG, ROOT

# An emulated processor is ten times slower, so only tests that depend on the kernel run here, and in
# a short run one or two of each path.
SHORT = (
    "local.Baseline.test_same_labels_talk",
    "local.Baseline.test_other_labels_are_refused",
    "gate.Gate.test_a_socket_that_outlives_its_workload_is_nobodys",
    "hosts.SharedSecret.test_same_labels_talk",
    "hosts.SharedSecret.test_other_labels_are_refused_at_once",
    "hosts.SharedSecret.test_the_kind_of_queue_is_told",
    "datagrams.Datagrams.test_same_labels_talk",
)
FULL = (
    "local",
    "gate",
    "rules",
    "takeover",
    "hosts.SharedSecret",
    "datagrams.Datagrams",
    "idle.SharedSecret",
    "hostile.Hostile.test_a_request_that_conntrack_has_forgotten_is_completed_by_nobody",
    "names.Names.test_whose_address_changes_with_each_answer",
)
MODULES = FULL if LONG else SHORT


class DebianKernel(unittest.TestCase):
    def test_both_paths(self):
        vm.require_programs(self)
        scratch = undo.Undo()
        self.addCleanup(scratch.run)
        kernel = vm.fetch_kernel(ROOT + "/build/debian-kernel")
        archive = vm.make_initramfs(
            kernel, scratch.directory, [f"tests.system.test_{name}" for name in MODULES]
        )
        code, text = vm.boot(
            kernel, archive, scratch.directory + "/console", 3600 if LONG else 1150
        )
        print(text[-30000:], flush=True)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"\b6\.1\.\d+")
        self.assertIn("this kernel has: nf_tables queue", text)


if __name__ == "__main__":
    unittest.main()
