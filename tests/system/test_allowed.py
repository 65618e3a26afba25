# SPDX-License-Identifier: Apache-2.0
"""Allowed flows are reported as samples, at a bounded rate, and each rule counts what it decides."""

import json

from tests.system import waiting
from tests.system.host import TRIRECTL, HostCase
from tests.system.world import WorldCase

RULES = """
[[allow]]
name = "used"
from = "app=web"
to = "app=db"
ports = ["tcp/7200-7299", "udp/7200-7299"]
[[allow]]
name = "dead"
from = "app=web"
to = "app=db"
ports = ["tcp/1"]
[[deny]]
name = "closed"
from = "app=web"
to = "app=db"
ports = ["tcp/7300"]
"""


def flows(host, *arguments):
    text = host.must([TRIRECTL, "flows", *arguments, "--json"])
    return [json.loads(line) for line in text.splitlines()]


def samples(host, *arguments):
    return [flow for flow in flows(host, "--all", *arguments) if flow.get("sampled")]


def rules(host):
    listed = json.loads(host.must([TRIRECTL, "rules", "--json"]))
    return {line.get("name") or line["rule"]: line for line in listed}


class OnOneHost(HostCase):
    def setUp(self):
        super().setUp()
        self.host.explicit_reload(RULES)

    def pair(self):
        return self.host.labelled("app=web"), self.host.labelled("app=db")

    def test_an_allowed_flow_is_shown_with_all_only(self):
        web, db = self.pair()
        for kind in ("tcp", "udp"):
            port = db.serve(kind, "127.0.0.1", 7210)
            self.assert_allowed(web.exchange(kind, "127.0.0.1", port))
            flow = waiting.until(
                lambda kind=kind: samples(self.host, "--port", f"{kind}/7210"), f"{kind} sample"
            )[0]
            self.assertEqual(flow["verdict"], "allow")
            self.assertEqual(flow["source"]["labels"], {"app": "web"})
            self.assertEqual(flow["destination"]["labels"], {"app": "db"})
            self.assertIn("used", flow["rule"])
        self.assertEqual(flows(self.host, "--port", "7210"), [])
        self.assertEqual(flows(self.host, "--summary", "--port", "7210"), [])
        tally = flows(self.host, "--summary", "--all", "--port", "tcp/7210")
        self.assertEqual([(each["verdict"], each["count"]) for each in tally], [("allow", 1)])
        self.assertNotIn("7210", self.host.log_text(), "samples are not in the log")

    def test_the_same_endpoints_and_port_are_one_sample(self):
        web, db = self.pair()
        port = db.serve("tcp", "127.0.0.1", 7211)
        other = db.serve("tcp", "127.0.0.1", 7212)
        for _ in range(20):
            self.assert_allowed(web.exchange("tcp", "127.0.0.1", port))
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", other))
        waiting.until(lambda: samples(self.host, "--port", str(other)), "the last one")
        self.assertEqual(len(samples(self.host, "--port", str(port))), 1)

    def test_samples_do_not_displace_refusals(self):
        """More kinds of allowed flow than the daemon keeps samples of: refusals stay."""
        web, db = self.pair()
        refused = db.serve("tcp", "127.0.0.1", 7300)
        self.assert_refused(web.exchange("tcp", "127.0.0.1", refused))
        waiting.until(lambda: flows(self.host, "--port", "7300"), "the refusal")
        before = len(flows(self.host, "--port", "7300"))
        for port in range(7220, 7290):
            db.serve("tcp", "127.0.0.1", port)
            self.assert_allowed(web.exchange("tcp", "127.0.0.1", port))
        waiting.until(lambda: len(samples(self.host)) > 20, "samples")
        self.assertEqual(len(flows(self.host, "--port", "7300")), before)

    def test_rules_count_what_they_decide(self):
        web, db = self.pair()
        allowed = db.serve("tcp", "127.0.0.1", 7213)
        refused = db.serve("tcp", "127.0.0.1", 7300)
        unruled = db.serve("tcp", "127.0.0.1", 7400)
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", allowed))
        self.assert_refused(web.exchange("tcp", "127.0.0.1", refused))
        self.assert_refused(web.exchange("tcp", "127.0.0.1", unruled))
        twin = self.host.labelled("app=web")
        own = twin.serve("tcp", "127.0.0.1", 7401)
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", own))
        waiting.until(
            lambda: all(
                rules(self.host)[each]["hits"] for each in ("used", "closed", "no rule", "baseline")
            ),
            "every one of them has counted",
        )
        listed = rules(self.host)
        self.assertEqual((listed["dead"]["hits"], listed["dead"]["last"]), (0, None))
        self.assertEqual(listed["closed"]["action"], "deny")
        self.assertGreater(listed["dead"]["line"], listed["used"]["line"])
        self.host.explicit_reload("# one line more\n" + RULES)
        moved = rules(self.host)
        self.assertEqual(moved["used"]["line"], listed["used"]["line"] + 1)
        self.assertEqual(moved["used"]["hits"], listed["used"]["hits"])
        table = self.host.must([TRIRECTL, "rules"])
        self.assertRegex(table, r"(?m)^0 +never +[\d: -]+ +allow +dead +policy\.toml:\d+$")

    def test_audit_and_quarantine_are_no_samples(self):
        web, db = self.pair()
        port = db.serve("tcp", "127.0.0.1", 7402)
        self.host.explicit_reload('[defaults]\nmode = "audit"\n' + RULES)
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", port))
        flow = waiting.until(lambda: flows(self.host, "--all", "--port", "7402"), "the report")[0]
        self.assertEqual(flow["verdict"], "audit")
        self.assertEqual(samples(self.host, "--port", "7402"), [])


class WithTheWorld(WorldCase):
    def test_to_and_from_addresses(self):
        far = self.world.plain()
        web = self.host.labelled("app=web")
        self.host.explicit_reload(
            '[[allow]]\nname = "out"\nfrom = "app=web"\nto = "@world"\n'
            '[[allow]]\nname = "in"\nfrom = "@world"\nto = "app=web"\n'
        )
        for kind in ("tcp", "udp"):
            out = far.serve(kind, "10.97.1.1")
            self.assert_allowed(web.exchange(kind, "10.97.1.1", out), kind)
            flow = waiting.until(
                lambda kind=kind, out=out: samples(self.host, "--port", f"{kind}/{out}"), kind
            )[0]
            self.assertEqual(flow["destination"]["entity"], "@world")
            self.assertEqual(flow["destination"]["address"], "10.97.1.1")
        waiting.until(lambda: rules(self.host)["out"]["hits"] >= 2, "the rule has counted")
