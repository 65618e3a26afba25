# SPDX-License-Identifier: Apache-2.0
"""[host] labels: a label that every workload of a host has does not match for the baseline."""

import json
import unittest

from tests.system import linked, waiting
from tests.system.host import HostCase
from tests.system.linked import PORT, SERVER

ANY = '[defaults]\nbaseline = "any-common-label"\n'
SAME = '[defaults]\nbaseline = "same-labels"\n'
RULE = '[[allow]]\nfrom = "zone=eu"\nto = "app=web"\n'


class OneHost(HostCase):
    IDENTITY = '[host]\nlabels = { zone = "eu" }\n'

    def setUp(self):
        super().setUp()
        self.web = self.host.labelled("app=web")
        self.web.serve("tcp", "127.0.0.1", PORT)
        self.other = self.host.labelled("app=db")
        self.friend = self.host.labelled("app=web")
        self.bare = self.host.labelled("zone=mine")  # the host's label overrides it

    def reaches(self, who):
        return who.exchange("tcp", "127.0.0.1", PORT) == "ok"

    def explained(self, who, to="app=web,zone=eu"):
        names = {w["labels"].get("app", ""): w["name"] for w in self.host.workloads()}
        done = self.host.trirectl(
            "policy", "explain", "--from", names[who], "--to", to, "--port", f"tcp/{PORT}"
        )
        return done.returncode == 0

    def test_the_baseline(self):
        self.host.policy(ANY)
        self.assertTrue(self.reaches(self.friend))
        self.assertFalse(self.reaches(self.other))
        self.assertFalse(self.reaches(self.bare))
        self.assertFalse(self.explained("db"))
        self.host.policy(SAME)
        self.assertTrue(self.reaches(self.friend))
        self.assertFalse(self.reaches(self.other))
        self.assertTrue(self.explained("web"))
        second = self.host.labelled("zone=mine")
        self.bare.serve("tcp", "127.0.0.1", PORT + 1)
        self.assert_refused(second.exchange("tcp", "127.0.0.1", PORT + 1))
        self.host.policy(SAME + RULE)
        for each in (self.friend, self.other, self.bare):
            self.assertTrue(self.reaches(each), "selectors match them")

    def test_the_tools_know_whose_they_are(self):
        for workload in self.host.workloads():
            self.assertEqual(workload["labels"]["zone"], "eu")
            self.assertEqual(workload["host_labels"], ["zone"])
        self.host.policy(SAME)
        self.host.write("next/policy.toml", ANY)
        done = self.host.trirectl("policy", "diff", self.host.config + "/next", "--json")
        difference = json.loads(done.stdout)
        gained = [change for change in difference["access"] if change["gained"]]
        self.assertEqual(gained, [], "no two of them share a label of their own")


class TwoHosts(linked.LinkedCase):
    POLICY = ANY
    IDENTITY = linked.IDENTITY.replace("[host]\n", '[host]\nlabels = {{ zone = "eu" }}\n')

    def test_a_token_says_which_labels_are_the_hosts(self):
        self.assertEqual(self.friend.exchange("tcp", SERVER, PORT), "ok")
        other = self.client.labelled("app=db")
        self.assertIn(other.exchange("tcp", SERVER, PORT), ("ECONNREFUSED", "ECONNRESET"))
        self.assertIn(
            self.client.labelled("zone=eu").exchange("tcp", SERVER, PORT),
            ("ECONNREFUSED", "ECONNRESET"),
        )
        flow = waiting.until(
            lambda: next((f for f in self.server.flows() if f["verdict"] == "deny"), None),
            "the refusal is logged",
        )
        self.assertEqual(flow["source"]["host_labels"], ["zone"])


if __name__ == "__main__":
    unittest.main()
