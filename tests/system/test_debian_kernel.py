# SPDX-License-Identifier: Apache-2.0
"""The local path, the token path, datagrams and names on Debian's own kernel, with the cgroupfs
driver. That kernel has the native `queue` of nf_tables."""

import unittest

from tests.system import undo, vm
from tests.system.host import LONG, ROOT

# An emulated processor is ten times slower, so only tests that depend on the kernel run here: what it
# tells about sockets, what conntrack and the kinds of queue do with a packet, and which hooks of BPF
# there are.
TESTS = (
    "local.Baseline.test_same_labels_talk",
    "local.Baseline.test_other_labels_are_refused",
    "local.Baseline.test_unlabelled_to_a_workload_is_refused",
    "local.Baseline.test_ping_of_the_host_by_a_workload_is_refused",
    "gate.Gate",
    "rules.Multicast.test_each_receiver_is_judged",
    "rules.Outside.test_the_world_is_refused_both_ways",
    "rules.Outside.test_neighbour_discovery_and_unreachable_ports_work",
    "takeover.Takeover.test_a_listener_that_takes_a_closed_port",
    "takeover.Takeover.test_a_datagram_socket_that_takes_a_port_over",
    "takeover.Takeover.test_time_wait_reuse_by_a_stranger_is_refused_and_by_the_owner_allowed",
    "takeover.Takeover.test_data_in_the_third_segment_is_not_delivered",
    "takeover.Takeover.test_fast_open_data_is_judged_with_its_syn",
    "hosts.SharedSecret.test_same_labels_talk",
    "hosts.SharedSecret.test_other_labels_are_refused_at_once",
    "hosts.SharedSecret.test_the_kind_of_queue_is_told",
    "hosts.SharedSecret.test_nobody_gets_in_while_the_daemon_is_dead",
    "datagrams.Datagrams.test_same_labels_talk",
    "datagrams.Datagrams.test_nothing_arrives_ahead_of_the_proof",
    "datagrams.Datagrams.test_who_takes_the_servers_port_gets_nothing",
    "idle.SharedSecret.test_whoever_speaks_first_after_conntrack_forgot",
    "idle.SharedSecret.test_nobody_else_goes_on_with_it",
    "hostile.Hostile.test_a_request_that_conntrack_has_forgotten_is_completed_by_nobody",
    "names.Names.test_whose_address_changes_with_each_answer",
)


@unittest.skipUnless(LONG, "long: boots an emulated machine")
class DebianKernel(unittest.TestCase):
    def test_both_paths(self):
        vm.require_programs(self)
        scratch = undo.Undo()
        self.addCleanup(scratch.run)
        kernel = vm.fetch_kernel(ROOT + "/build/debian-kernel")
        archive = vm.make_initramfs(
            kernel, scratch.directory, [f"tests.system.test_{name}" for name in TESTS]
        )
        code, text = vm.boot(kernel, archive, scratch.directory + "/console", 2400)
        print(text[-30000:], flush=True)
        self.assertEqual(code, 0)
        self.assertRegex(text, r"\b6\.1\.\d+")
        self.assertIn("this kernel has: nf_tables queue", text)


if __name__ == "__main__":
    unittest.main()
