# SPDX-License-Identifier: Apache-2.0
"""Many workloads and many flows at the same time: verdicts stay right, trirectl answers, the
daemon's memory is bounded, and launches succeed.

tests/bench/scale.py measures the speed. These tests only count, with limits far above the measured
values.
"""

import json
import unittest

from tests.system import crowd, host, waiting

WORKLOADS, TALKERS, FLOWS = (10_000, 40, 100_000) if host.LONG else (400, 12, 5_000)
RATE = 100_000 / 60
# Memory of the flow store (8 MiB of each kind, twice while it is listed), and of each workload.
MOST_MB = 120 + 0.02 * WORKLOADS


class Scale(host.HostCase):
    POLICY = crowd.POLICY

    def test_many_workloads_and_many_flows(self):
        everybody = crowd.Crowd(self.host, WORKLOADS, TALKERS)
        daemon = crowd.Used(self.host.daemon.pid)
        self.host.write(
            "next/policy.toml",
            crowd.POLICY
            + '[[deny]]\nfrom = "role=talker"\nto = "role=talker"\nports = ["udp/20000-20999"]\n',
        )
        self.host.write("next/identity.toml", "")
        everybody.talk(RATE)
        seen, results = 0, {}
        while seen < FLOWS:
            self.ask_everything()
            results = everybody.results()
            self.assertEqual(crowd.wrong(results), {})
            seen += crowd.flows(results)
            self.assertLess(daemon.resident(), MOST_MB)
        self.assertEqual(
            {kind for kind, outcomes in results.items() if outcomes},
            {"tcp allowed", "tcp refused", "udp allowed", "udp refused"},
        )
        everybody.talk(0)
        # No flow was lost while others were stored: the newest refusal is listed.
        self.host.labelled("app=last").exchange("tcp", "127.0.0.1", 20000)
        waiting.until(
            lambda: self.json_lines("flows", "--from", "app=last"), "the last refusal is logged"
        )

    def json_lines(self, *command):
        return [
            json.loads(line)
            for line in self.host.must([host.TRIRECTL, *command, "--json"]).splitlines()
        ]

    def ask_everything(self):
        waiting.until(
            lambda: self.host.status()["workloads"]["enforced"] == WORKLOADS,
            "the sleepers are enforced, and the others have ended",
        )
        self.assertEqual(len(self.host.workloads()), WORKLOADS)
        self.assertLessEqual(len(self.json_lines("flows", "-n", "5000")), 4096)
        refused = self.json_lines("flows", "--summary", "-n", "20000", "--verdict", "deny")
        self.assertLessEqual(len(refused), 10_000)
        self.assertTrue(all(flow["source"]["labels"]["role"] == "talker" for flow in refused))
        graph = json.loads(self.host.must([host.TRIRECTL, "policy", "graph", "--format", "json"]))
        self.assertGreater(len(graph["nodes"]), 2)
        diff = self.host.trirectl("policy", "diff", self.host.config + "/next", "--json")
        self.assertEqual(
            (diff.returncode, [each["lost"] for each in json.loads(diff.stdout)["access"]]),
            (1, ["udp/20000-20999"]),
            diff.stderr,
        )
        self.assertEqual(self.host.trirun("app=new", ["true"]).returncode, 0)


if __name__ == "__main__":
    unittest.main()
