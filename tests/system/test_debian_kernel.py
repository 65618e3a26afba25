# SPDX-License-Identifier: Apache-2.0
"""The local path, the token path, datagrams and names on Debian's own kernel, with the cgroupfs
driver. That kernel has the native `queue` of nf_tables."""

import unittest

from tests.system import undo, vm
from tests.system.host import LONG, ROOT

TOKENS = tuple(
    f"hosts.SharedSecret.test_{name}"
    for name in (
        "same_labels_talk",
        "other_labels_are_refused_at_once",
        "an_unlabelled_client_is_refused",
        "the_kind_of_queue_is_told",
        "hosts_of_which_one_sends_no_flow_labels",
        "many_flows_between_two_hosts_have_many_threads",
    )
)
GATE = tuple(
    f"gate.Gate.test_{name}"
    for name in (
        "a_socket_that_outlives_its_workload_is_nobodys",
        "a_group_of_listeners_gives_nobody_anothers_connections",
        "priorities_that_others_take_off_let_nobody_in",
    )
)
DATAGRAMS = tuple(
    f"datagrams.Datagrams.test_{name}"
    for name in (
        "same_labels_talk",
        "other_labels_are_refused_at_once",
        "large_datagrams",
        "nothing_arrives_ahead_of_the_proof",
        "an_authorized_flow_does_without_the_verifiers",
    )
)
ANSWERS = "names.Names.test_whose_address_changes_with_each_answer"
FORGOTTEN = (
    *(
        f"idle.SharedSecret.test_{name}"
        for name in (
            "whoever_speaks_first_after_conntrack_forgot",
            "the_end_reaches_the_other_end",
            "who_takes_the_port_of_a_datagram_flow_gets_nothing",
        )
    ),
    "hostile.Hostile.test_a_request_that_conntrack_has_forgotten_is_completed_by_nobody",
)
# An emulated processor is ten times slower, so only tests that depend on the kernel run here.
MODULES = (
    (
        "local",
        "gate",
        "rules",
        "takeover",
        "hosts.SharedSecret",
        "datagrams.Datagrams",
        "idle.SharedSecret",
        FORGOTTEN[-1],
        ANSWERS,
    )
    if LONG
    else ("local", *GATE, *TOKENS, *DATAGRAMS, *FORGOTTEN, ANSWERS)
)


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
