# SPDX-License-Identifier: Apache-2.0
"""`policy explain` about containers, this host's processes and other hosts: each answer is compared
with the packets."""

import unittest

from tests.system.crossing import BRIDGE4, HERE4, THERE4, CrossingCase

PORT = 7300
BARE = 7301  # of the unlabeled server beside a workload
SERVICE = f"tcp/{PORT}"


def allow(source, target):
    ports = f'ports = ["tcp/{PORT}-{BARE}"]\n'
    return f'[[allow]]\nname = "it"\nfrom = "{source}"\nto = "{target}"\n{ports}'


class Explain(CrossingCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.use, "")

    def assert_true(self, agent, address, questions, note):
        """All questions are about what `agent` then tries. Returns whether it is allowed."""
        answers = self.explain([(*question, SERVICE) for question in questions])
        expected = answers[0]["passes"]
        for question, answer in zip(questions, answers):
            self.assertEqual(answer["passes"], expected, f"{note}: {question}\n{answer['text']}")
        # While the tables of containers follow a reload, what only one of the policies allows can be
        # refused.
        for _ in range(5 if expected else 1):
            outcome = agent.exchange("tcp", address, PORT, timeout=3)
            if outcome == "ok":
                break
        self.assertEqual(outcome == "ok", expected, f"{note}: {outcome}\n{answers[0]['text']}")
        return expected

    def test_the_host_and_a_bridge_container(self):
        server, address = self.container("shop", "app=shop")
        server.serve("tcp", "0.0.0.0", PORT)
        plain = self.plain()
        plain.serve("tcp", "0.0.0.0", PORT)
        bridge = f'[[network]]\nname = "bridge"\ncidrs = ["{BRIDGE4}"]\n'
        seen = {}
        for entity in ("@host", "@world", "@bridge"):
            self.use(bridge + allow(entity, "app=shop"))
            questions = [("@host", "shop"), ("@host", "app=shop"), ("@host", address)]
            questions += [(BRIDGE4, "shop")]
            inward = self.assert_true(plain, address, questions, f"from {entity}")
            own = self.assert_true(server, "127.0.0.1", [("shop", "app=shop")], "itself")
            self.assertTrue(own)
            self.use(bridge + allow("app=shop", entity))
            outward = self.assert_true(
                server, BRIDGE4, [("shop", BRIDGE4), ("app=shop", BRIDGE4)], f"to {entity}"
            )
            self.assert_true(server, HERE4, [("shop", HERE4), (address, HERE4)], f"to {entity}")
            seen[entity] = (inward, outward)
        self.assertEqual(
            seen, {"@host": (False, False), "@world": (True, True), "@bridge": (True, True)}
        )

    def test_what_is_proposed_for_it_works(self):
        server, address = self.container("shop", "app=shop")
        server.serve("tcp", "0.0.0.0", PORT)
        plain = self.plain()
        for far in ("10.97.1.1", "10.97.1.2"):
            self.peer.plain().serve("tcp", far, PORT)
            self.assertEqual(plain.exchange("tcp", far, PORT), "ok", "no policy applies")
        self.use("")
        self.assertFalse(self.assert_true(plain, address, [("@host", "shop")], "at first"))
        self.assertFalse(self.assert_true(server, "10.97.1.1", [("shop", "10.97.1.1")], "at first"))
        proposed = self.explained("@host", "shop", SERVICE)["toml"]
        proposed += "\n" + self.explained("shop", "10.97.1.1", SERVICE)["toml"]
        self.use(proposed)
        self.assertTrue(self.assert_true(plain, address, [("@host", "shop")], proposed))
        self.assertTrue(self.assert_true(server, "10.97.1.1", [("shop", "10.97.1.1")], proposed))
        self.assertFalse(self.assert_true(server, "10.97.1.2", [("shop", "10.97.1.2")], proposed))

    def test_an_address_of_a_container_is_its_workload(self):
        server, address = self.container("shop", "app=shop")
        server.serve("tcp", "0.0.0.0", PORT)
        web, name = self.labelled("app=web")
        other, _ = self.labelled("app=other")
        self.use(allow("app=web", "app=shop"))
        self.assertTrue(
            self.assert_true(
                web,
                address,
                [(name, address), ("app=web", "shop"), ("app=web", address)],
                "allowed",
            )
        )
        self.assertFalse(self.assert_true(other, address, [("app=other", address)], "not allowed"))
        answer = self.explained("app=web", address, SERVICE)
        self.assertEqual(answer["to"], f"{address}, which is shop (app=shop)")

    def test_a_peers_address(self):
        """A workload there shows labels, which this host does not know; an unlabeled process does
        not."""
        web, name = self.labelled("app=web")
        far, bare = self.peer.labelled("app=far"), self.peer.plain()
        far.serve("tcp", "0.0.0.0", PORT)
        bare.serve("tcp", "0.0.0.0", BARE)
        for rules, to_labels, to_unlabeled in (
            ("", False, False),
            (allow("app=web", "app=far"), True, False),
            (allow("app=web", "@world"), False, True),
        ):
            self.use(rules)
            far_labels = [("app=web", "app=far"), (name, "app=far")]
            self.assertEqual(self.assert_true(web, THERE4, far_labels, rules), to_labels)
            answer = self.explained("app=web", THERE4, SERVICE)
            self.assertEqual((answer["verdict"], answer["passes"]), ("unknown", False))
            self.assertIn("ask for --to app=...", answer["reason"])
            (part,) = answer["other_parts"]
            self.assertEqual(part["ends"], [f"{THERE4}, without labels (@world)"])
            self.assertEqual(part["passes"], to_unlabeled, rules)
            outcome = web.exchange("tcp", THERE4, BARE)
            self.assertEqual(outcome == "ok", to_unlabeled, f"{rules} {outcome}")
        done = self.lab.sh(f"trirectl policy explain --from app=web --to {THERE4} --port {SERVICE}")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(": not known\n", done.stdout)

    def test_a_process_of_this_host_is_the_world_to_a_peer(self):
        far, plain = self.peer.labelled("app=far"), self.plain()
        far.serve("tcp", "0.0.0.0", PORT)
        for entity, allowed in (("@host", False), ("@world", True)):
            self.use(allow(entity, "app=far"))
            outcome = plain.exchange("tcp", THERE4, PORT)
            self.assertEqual(outcome == "ok", allowed, f"{entity} {outcome}")
            answer = self.explained("@host", "app=far", SERVICE)
            by_place = {answer["to"]: answer["passes"]}
            for part in answer["other_parts"]:
                by_place.update({end: part["passes"] for end in part["ends"]})
            there = [passes for end, passes in by_place.items() if "on another host" in end]
            self.assertEqual(there, [allowed], answer["text"])

    def test_files_are_explained_with_the_same_workloads(self):
        server, address = self.container("shop", "app=shop")
        server.serve("tcp", "0.0.0.0", PORT)
        self.use("")
        self.lab.write("root/next/policy.toml", allow("@world", "app=shop"))
        for target in ("shop", address):
            done = self.lab.sh(
                "trirectl policy explain --config-dir /root/next "
                f"--from @host --to {target} --port {SERVICE}"
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(f"@host at {BRIDGE4} (@world)", done.stdout)


if __name__ == "__main__":
    unittest.main()
