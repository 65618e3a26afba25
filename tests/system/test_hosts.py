# SPDX-License-Identifier: Apache-2.0
"""Two hosts, each with a daemon of its own, that prove labels to each other within the TCP
handshake."""

import json
import os
import subprocess
import unittest

from tests.system import host, waiting
from tests.system.pair import (
    CLIENT4,
    PORT,
    SERVER4,
    SERVER6,
    CertificatePair,
    PairCase,
    SharedSecretPair,
)


class HostsCase(PairCase):
    def serve(self, labels):
        server = self.server.labelled(labels) if labels else self.server.plain()
        server.serve("tcp", "::", PORT)
        return server

    def test_same_labels_talk(self):
        server = self.serve("app=web")
        client = self.client.labelled("app=web")
        for address in (SERVER4, SERVER6):
            for _ in range(5):
                self.assertEqual(client.exchange("tcp", address, PORT), "ok", address)
        self.assertEqual(server.served("tcp", PORT)["accepted"], 10)
        for each in self.hosts:
            for name, least in (
                ("handshakes_authorised_total", 10),
                ("credential_cache_entries", 1),
                ("credential_cache_hits_total", 6),
            ):
                waiting.until(
                    lambda each=each, name=name, least=least: self.metric(each, name) >= least,
                    f"trireme_{name} tells",
                )

    @staticmethod
    def metric(of, name):
        lines = of.must([host.TRIRECTL, "metrics"]).splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"trireme_{name} ")))

    def test_other_labels_are_refused_at_once(self):
        server = self.serve("app=web")
        client = self.client.labelled("app=other")
        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["accepted"], 0)
        reported = waiting.until(
            lambda: [flow for flow in self.server.flows() if flow.get("cause") == "policy"],
            "the server reports it",
        )[0]
        self.assertEqual(reported["source"]["labels"], {"app": "other"})
        self.assertEqual(reported["verdict"], "deny")

    def test_the_callers_host_hears_who_denied_it_and_why(self):
        """Both for a refusal by a TCP reset and for one by a datagram."""
        server = self.serve("app=web")
        server.serve("udp", "::", PORT)
        client = self.client.labelled("app=asker")
        self.addCleanup(self.server.explicit_reload, "")
        # The client's own policy allows the flow; the server's does not.
        self.client.explicit_reload('[[allow]]\nfrom = "app=asker"\nto = "app=web"\n')
        self.addCleanup(self.client.explicit_reload, "")

        def reported_at_client():
            flows = self.client.flows()
            return [
                flow
                for flow in flows
                if flow.get("cause") == "denied_by_peer"
                and flow["source"]["labels"] == {"app": "asker"}
            ]

        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
            self.assertIn(
                client.exchange("udp", address, PORT), ("EHOSTUNREACH", "EACCES"), address
            )
        waiting.until(lambda: len(reported_at_client()) == 4, "four flows")
        self.assertEqual(
            [flow["verdicts"] for flow in reported_at_client()],
            [{"source": None, "destination": "deny"}] * 4,
            "the peer has decided",
        )
        self.assertEqual(
            {flow["reason"] for flow in reported_at_client()},
            {f"denied by peer {address}: policy there" for address in (SERVER4, SERVER6)},
        )
        self.assertEqual(server.served("udp", PORT)["bytes"], 0)
        self.server.explicit_reload("[defaults]\ntell_peers = false\n")
        again = self.server.labelled("app=web")
        again.serve("tcp", "::", PORT + 1)
        self.assertEqual(client.exchange("tcp", SERVER4, PORT + 1), "ECONNREFUSED")
        self.assertEqual(again.served("tcp", PORT + 1)["bytes"], 0)
        self.assertEqual(len(reported_at_client()), 4, "nothing else is reported")

    def test_a_flow_that_tokens_authorize_is_a_sample_at_both_hosts(self):
        def samples(of, kind):
            argv = [host.TRIRECTL, "flows", "--all", "--json", "--port", f"{kind}/{PORT}"]
            flows = map(json.loads, of.must(argv).splitlines())
            return [
                flow
                for flow in flows
                if flow.get("sampled") and flow["source"].get("labels") == {"app": "sampled"}
            ]

        server = self.serve("app=sampled")
        server.serve("udp", "::", PORT)
        client = self.client.labelled("app=sampled")
        other = self.client.labelled("app=unsampled")
        for kind in ("tcp", "udp"):
            self.assertNotEqual(other.exchange(kind, SERVER4, PORT), "ok", kind)
            for _ in range(3):
                self.assertEqual(client.exchange(kind, SERVER4, PORT), "ok", kind)
            for each, local, remote in (
                (self.client, "source", "destination"),
                (self.server, "destination", "source"),
            ):
                waiting.until(lambda each=each, kind=kind: samples(each, kind), f"{kind} sample")
                (flow,) = samples(each, kind)
                self.assertEqual(flow["verdict"], "allow")
                self.assertEqual(flow["destination"]["labels"], {"app": "sampled"})
                self.assertIn("workload", flow[local])
                self.assertEqual(flow[remote]["workload"], "")
                self.assertIn("host", flow[remote])
                self.assertEqual(flow["verdicts"], {local: "allow", remote: None})
                listed = json.loads(each.must([host.TRIRECTL, "rules", "--json"]))
                hits = {line["rule"]: line["hits"] for line in listed}
                self.assertGreater(hits["baseline"], 0, "a rule that remote hosts use is not dead")
                self.assertNotRegex(each.log_text(), r"\ballow .*app=sampled", "it is not logged")

    def test_an_unlabelled_client_is_refused(self):
        server = self.serve("app=web")
        client = self.client.plain()
        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["accepted"], 0)

    def test_a_server_without_labels_is_refused_by_the_client(self):
        server = self.serve("")
        client = self.client.labelled("app=web")
        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["bytes"], 0)
        waiting.until(
            lambda: [flow for flow in self.client.flows() if flow.get("cause") == "no_proof"],
            "the client reports it",
        )

    def test_processes_without_labels_are_left_alone(self):
        self.serve("")
        client = self.client.plain()
        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ok", address)

    def test_a_connection_survives_restarts_of_both_daemons(self):
        self.serve("app=web")
        client = self.client.labelled("app=web")
        client.open("c", "tcp", CLIENT4)
        self.assertEqual(client.connect("c", SERVER4, PORT), "ok")
        for each in self.hosts:  # the remote identity is saved just after its first connection
            waiting.until(
                lambda each=each: os.path.exists(each.runtime + "/identities.json"),
                "the remote identity is saved",
            )
            each.restart()
        self.assertEqual(client.send_text("c", "ping"), "ok")
        self.assertEqual(client.receive("c"), {"text": "ping"})
        self.assertEqual(client.exchange("tcp", SERVER4, PORT), "ok")

    def test_nobody_gets_in_while_the_daemon_is_dead(self):
        server = self.serve("app=web")
        client = self.client.labelled("app=web")
        self.server.stop(9)
        try:
            self.assertEqual(client.exchange("tcp", SERVER4, PORT, timeout=1.5), "timeout")
            self.assertEqual(server.served("tcp", PORT)["accepted"], 0)
        finally:
            self.server.start()
        self.assertEqual(client.exchange("tcp", SERVER4, PORT), "ok")


class SharedSecret(HostsCase, SharedSecretPair, unittest.TestCase):
    def test_hosts_of_which_one_sends_no_flow_labels(self):
        """Both directions of a flow reach the same thread, even if the kernel's hash includes IPv6
        flow labels."""
        client, server = self.client.labelled("app=web"), self.serve("app=web")
        server.serve("udp", "::", PORT)
        try:
            for silent, other in ((self.client, self.server), (self.server, self.client)):
                silent.must(["sysctl", "-qw", "net.ipv6.auto_flowlabels=0"])
                other.must(["sysctl", "-qw", "net.ipv6.auto_flowlabels=1"])
                for kind in ("tcp", "udp"):
                    for _ in range(12):
                        self.assertEqual(client.exchange(kind, SERVER6, PORT), "ok", kind)
        finally:
            for each in self.hosts:
                each.must(["sysctl", "-qw", "net.ipv6.auto_flowlabels=1"])

    def test_many_flows_between_two_hosts_have_many_threads(self):
        self.serve("app=web")
        client = self.client.labelled("app=web")
        for address in (SERVER4, SERVER6):
            before = [self.taken(each) for each in self.hosts]
            for _ in range(20):
                self.assertEqual(client.exchange("tcp", address, PORT), "ok")
            for each, earlier in zip(self.hosts, before):
                for queue, count in self.taken(each).items():
                    self.assertGreater(count, earlier[queue], f"queue {queue}, {address}")

    @staticmethod
    def taken(of):
        """{queue number: packets that it has received}, for the verifier's queues."""
        lines = of.must(["cat", "/proc/net/netfilter/nfnetlink_queue"]).splitlines()
        return {
            int(words[0]): int(words[7]) for words in map(str.split, lines) if int(words[0]) < 7438
        }

    def test_a_peer_to_which_most_connections_fail_is_in_status(self):
        self.serve("app=web")
        client = self.client.labelled("app=caller")
        self.client.explicit_reload('[[allow]]\nfrom = "app=caller"\nto = "app=web"\n')
        self.addCleanup(self.client.explicit_reload, "")

        def of(each, address):
            return [peer for peer in each.status()["peers"] if peer["address"] == address]

        before = sum(peer["refused"] for peer in of(self.client, SERVER4))
        allowed = sum(peer["ok"] for peer in of(self.client, SERVER4))
        # More often than the warning needs, whatever other tests have connected.
        for _ in range(allowed + 5):
            self.assertEqual(client.exchange("tcp", SERVER4, PORT), "ECONNREFUSED")
        (peer,) = of(self.client, SERVER4)
        self.assertEqual(peer["refused"] - before, allowed + 5, "each one, not one in 5 seconds")
        self.assertEqual(peer["reason"], "denied_by_peer")
        lines = [line for line in self.client.status()["policy"]["warnings"] if SERVER4 in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(
            lines[0],
            rf"^peer {SERVER4}: \d+ of \d+ connections to it failed in the last minutes; the "
            rf"newest: denied by peer {SERVER4}: policy there$",
        )
        self.assertIn(lines[0], self.client.must([host.TRIRECTL, "status"]))
        self.assertEqual(of(self.server, CLIENT4), [], "the server began none")

    def test_the_kind_of_queue_is_told(self):
        kind = self.client.status()["tokens"]["queues"]
        self.assertIn(f", {kind}; shared secret", self.client.log_text())
        self.assertIn(kind, ("nf_tables queue", "xtables NFQUEUE target"))
        native = (
            self.client.run(
                ["nft", "-c", "table inet probe { chain c { queue num 1; }; }"]
            ).returncode
            == 0
        )
        self.assertEqual(kind == "nf_tables queue", native)
        print(f"this kernel has: {kind}", flush=True)

    def test_hosts_of_other_policies_warn(self):
        def differ(each):
            status = each.status()["policy"]
            return [line for line in status["warnings"] if "has a different policy" in line]

        self.serve("app=web")
        client = self.client.labelled("app=web")
        self.assertEqual(client.exchange("tcp", SERVER4, PORT), "ok")
        self.assertEqual([differ(self.client), differ(self.server)], [[], []])
        digests = {each.status()["policy"]["digest"] for each in (self.client, self.server)}
        self.assertEqual(len(digests), 1)
        self.server.policy('[defaults]\nrefuse = "drop"\n')
        self.addCleanup(self.server.policy, "")
        self.assertEqual(client.exchange("tcp", SERVER4, PORT), "ok")
        for each, peer in ((self.client, SERVER4), (self.server, CLIENT4)):
            (line,) = waiting.until(lambda each=each: differ(each), "a warning")
            self.assertIn(f"({peer}) has a different policy than this host", line)


class Certificates(HostsCase, CertificatePair, unittest.TestCase):
    pass


class Strangers(HostsCase, unittest.TestCase):
    """Hosts that share no secret: neither accepts the other's tokens."""

    @classmethod
    def trust(cls, directory):
        sections = []
        for name in ("client", "server"):
            path = f"{directory}/{name}"
            subprocess.run(
                [host.TRIRECTL, "pki", "psk", path], check=True, stdout=subprocess.DEVNULL
            )
            sections.append(f'[trust]\npsk_file = "{path}"\n')
        return sections

    def test_same_labels_talk(self):
        server = self.serve("app=web")
        client = self.client.labelled("app=web")
        for address in (SERVER4, SERVER6):
            self.assertEqual(client.exchange("tcp", address, PORT), "ECONNREFUSED", address)
        self.assertEqual(server.served("tcp", PORT)["accepted"], 0)
        waiting.until(
            lambda: [flow for flow in self.server.flows() if flow.get("cause") == "untrusted"],
            "the server reports it",
        )

    test_other_labels_are_refused_at_once = None
    test_the_callers_host_hears_who_denied_it_and_why = None
    test_a_flow_that_tokens_authorize_is_a_sample_at_both_hosts = None
    test_a_connection_survives_restarts_of_both_daemons = None
    test_nobody_gets_in_while_the_daemon_is_dead = None


if __name__ == "__main__":
    unittest.main()
