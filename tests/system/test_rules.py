# SPDX-License-Identifier: Apache-2.0
"""The kernel does what policy.toml says: ports, entities, networks, deny, drop, audit."""

import json
import subprocess
import time
import unittest
from datetime import datetime, timedelta, timezone

from tests.system import waiting
from tests.system.host import LOCAL4, LOCAL6, LOCALS, TRIRECTL, TRIRUN, HostCase
from tests.system.test_gate import GROUP

# Creates a cgroup 30 levels below its own, in the hierarchy at argv[1], and continues in it.
GO_DEEP = """
import os, sys
own = open("/proc/self/cgroup").read().split("0::")[1].split("\\n")[0]
deep = sys.argv[1] + own + "/d" * 30
os.makedirs(deep)
with open(deep + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""
ON_ONE_PROCESSOR = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Rules(HostCase):
    def test_a_rule_opens_its_ports_in_its_direction_only(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        opened, closed = db.serve("tcp", "::"), db.serve("tcp", "::")
        datagrams = db.serve("udp", "::")
        back = web.serve("tcp", "::")
        self.host.policy(f'[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/{opened}"]\n')
        for address in ("127.0.0.1", "::1", LOCAL6):
            self.assert_allowed(web.exchange("tcp", address, opened), address)
            self.assert_refused(web.exchange("tcp", address, closed), address)
            self.assert_refused(web.exchange("udp", address, datagrams), address)
            self.assert_refused(db.exchange("tcp", address, back), address)
        self.host.policy(
            f'[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["udp/{datagrams}"]\n'
        )
        self.assert_refused(web.exchange("tcp", "::1", opened))
        self.assert_allowed(web.exchange("udp", "::1", datagrams))
        self.assert_allowed(web.exchange("udp", "127.0.0.1", datagrams))

    def test_port_ranges_end_where_they_say(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        for kind in ("tcp", "udp"):
            for port in range(8000, 8012):
                db.serve(kind, "127.0.0.1", port)
        self.host.policy(
            '[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/8001-8010", "udp/8003"]\n'
        )
        for kind, inside, outside in (
            ("tcp", (8001, 8005, 8010), (8000, 8011)),
            ("udp", (8003,), (8002, 8004)),
        ):
            for port in inside:
                self.assert_allowed(web.exchange(kind, "127.0.0.1", port), f"{kind}/{port}")
            for port in outside:
                self.assert_refused(web.exchange(kind, "127.0.0.1", port), f"{kind}/{port}")

    def test_host_as_a_source(self):
        web, plain, other = (
            self.host.labelled("app=web"),
            self.host.plain(),
            self.host.labelled("app=db"),
        )
        opened, closed = web.serve("tcp", "::"), web.serve("tcp", "::")
        self.host.policy(f'[[allow]]\nfrom = "@host"\nto = "app=web"\nports = ["tcp/{opened}"]\n')
        for address in LOCALS:
            self.assert_allowed(plain.exchange("tcp", address, opened), address)
            self.assert_refused(plain.exchange("tcp", address, closed), address)
            self.assert_refused(other.exchange("tcp", address, opened), address)

    def test_host_as_a_destination(self):
        web, plain, other = (
            self.host.labelled("app=web"),
            self.host.plain(),
            self.host.labelled("app=db"),
        )
        tcp, udp = plain.serve("tcp", "::"), plain.serve("udp", "::")
        self.host.policy('[[allow]]\nfrom = "app=web"\nto = "@host"\n')
        for address in ("127.0.0.1", "::1", LOCAL6):
            self.assert_allowed(web.exchange("tcp", address, tcp), address)
            self.assert_allowed(web.exchange("udp", address, udp), address)
            self.assert_refused(other.exchange("tcp", address, tcp), address)
            self.assert_refused(plain.exchange("tcp", address, web.serve("tcp", address)), address)

    def test_icmp_by_rule(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        for address in ("127.0.0.1", "::1"):
            self.assertNotEqual(web.ping(address), "ok", address)
        self.host.policy('[[allow]]\nfrom = "app=web"\nto = "@host"\nports = ["icmp", "icmpv6"]\n')
        for address in ("127.0.0.1", "::1"):
            self.assert_allowed(web.ping(address), address)
        port = plain.serve("tcp", "127.0.0.1")
        self.assert_refused(web.exchange("tcp", "127.0.0.1", port))

    def test_icmp_in_audit_mode_is_reported(self):
        """Its flow is found by the id of the echo request: ICMP has no ports."""
        web = self.host.labelled("app=web")
        self.host.policy('[defaults]\nmode = "audit"\n')
        self.addCleanup(self.host.policy, "")
        for address, protocol in (("127.0.0.1", "icmp"), ("::1", "icmpv6")):
            self.assert_allowed(web.ping(address), address)
            waiting.until(
                lambda protocol=protocol: [
                    flow
                    for flow in self.host.flows()
                    if flow["protocol"] == protocol and flow["verdict"] == "audit"
                ],
                f"{protocol} is reported",
            )

    def test_a_network_by_cidr(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        self.host.policy(
            f'[[network]]\nname = "near"\ncidrs = ["{LOCAL4}/32", "{LOCAL6}/128"]\n'
            '[[allow]]\nfrom = "app=web"\nto = "@near"\nports = ["tcp/1-65535"]\n'
        )
        for address, kind, allowed in (
            (LOCAL4, "tcp", True),
            (LOCAL6, "tcp", True),
            ("127.0.0.1", "tcp", False),
            ("::1", "tcp", False),
            (LOCAL4, "udp", False),
        ):
            outcome = web.exchange(kind, address, plain.serve(kind, address))
            (self.assert_allowed if allowed else self.assert_refused)(outcome, f"{kind} {address}")

    def test_deny_wins_in_either_order(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        port = db.serve("tcp", "127.0.0.1")
        allow, deny = (
            '[[allow]]\nfrom = "app=web"\nto = "app=db"\n',
            '[[deny]]\nfrom = "app=web"\nto = "app=db"\n',
        )
        self.host.policy(allow)
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", port))
        for policy in (allow + deny, deny + allow):
            self.host.policy(policy)
            self.assert_refused(web.exchange("tcp", "127.0.0.1", port))

    def test_deny_wins_over_the_baseline(self):
        web, same = self.host.labelled("app=web"), self.host.labelled("app=web")
        port = web.serve("tcp", "127.0.0.1")
        self.assert_allowed(same.exchange("tcp", "127.0.0.1", port))
        self.host.policy(f'[[deny]]\nfrom = "*"\nto = "app=web"\nports = ["tcp/{port}"]\n')
        self.assert_refused(same.exchange("tcp", "127.0.0.1", port))
        self.assert_allowed(
            same.exchange("tcp", "127.0.0.1", web.serve("tcp", "127.0.0.1")), "another port"
        )

    def test_baselines(self):
        one, two = self.host.labelled("app=web,env=dev"), self.host.labelled("app=web,env=prod")
        same = self.host.labelled("app=web,env=dev")
        port = one.serve("tcp", "127.0.0.1")
        for baseline, same_set, common in (
            ("same-labels", True, False),
            ("any-common-label", True, True),
            ("none", False, False),
        ):
            self.host.policy(f'[defaults]\nbaseline = "{baseline}"\n')
            for client, allowed in ((same, same_set), (two, common)):
                outcome = client.exchange("tcp", "127.0.0.1", port)
                (self.assert_allowed if allowed else self.assert_refused)(outcome, baseline)

    def test_drop_answers_nothing(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        self.host.policy('[defaults]\nrefuse = "drop"\n')
        for kind, address in (
            ("tcp", "127.0.0.1"),
            ("tcp", "::1"),
            ("udp", "127.0.0.1"),
            ("udp", "::1"),
        ):
            port = web.serve(kind, address)
            self.assert_silent(
                plain.exchange(kind, address, port, timeout=0.4), f"{kind} {address}"
            )
            self.assertEqual(web.served(kind, port), {"accepted": 0, "bytes": 0})

    def test_audit_lets_pass_and_says_so(self):
        web, plain = self.host.labelled("app=audited"), self.host.plain()
        self.host.policy('[defaults]\nmode = "audit"\n')
        for kind, address in (("tcp", "127.0.0.1"), ("udp", "::1")):
            port = web.serve(kind, address)
            self.assert_allowed(plain.exchange(kind, address, port), f"{kind} {address}")
            flow = self.flow_of(port)
            self.assertEqual(flow["destination"]["labels"], {"app": "audited"})
        self.assertEqual(self.host.status()["mode"], "audit")
        self.host.policy("")
        self.assert_refused(plain.exchange("tcp", "127.0.0.1", web.serve("tcp", "127.0.0.1")))

    def test_an_audited_flow_is_reported_once(self):
        """The rules and the gate report it."""
        db, web = self.host.labelled("app=once"), self.host.labelled("app=web")
        self.host.policy('[defaults]\nmode = "audit"\n')
        self.addCleanup(self.host.policy, "")
        for kind in ("tcp", "udp"):
            port = db.serve(kind, "127.0.0.1")
            self.assert_allowed(web.exchange(kind, "127.0.0.1", port), kind)
            flow = self.flow_of(port)
            self.assertEqual(flow["verdicts"], {"source": "audit", "destination": "audit"})
            time.sleep(1)  # for another report
            summary = [
                json.loads(line)
                for line in self.host.must(
                    [TRIRECTL, "flows", "--summary", "--json", "--port", str(port)]
                ).splitlines()
            ]
            self.assertEqual([each["count"] for each in summary], [1], kind)

    def test_a_deny_rule_in_audit_lets_pass_and_says_so(self):
        web, same = self.host.labelled("app=web"), self.host.labelled("app=web")
        port = web.serve("tcp", "127.0.0.1")
        self.host.policy('[[deny]]\nname = "trial"\nfrom = "*"\nto = "app=web"\nmode = "audit"\n')
        self.assert_allowed(same.exchange("tcp", "127.0.0.1", port))
        self.assertIn("trial", self.flow_of(port)["rule"])

    def test_a_deny_rule_in_audit_reports_a_flow_that_was_a_sample(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        self.addCleanup(self.host.policy, "")
        allow, deny = (
            f'[[{action}]]\nfrom = "app=web"\nto = "app=db"\n' for action in ("allow", "deny")
        )
        self.host.policy(allow)
        db.open("s", "udp", "127.0.0.1", 7501)  # without answers, rules judge each datagram
        web.open("c", "udp", "127.0.0.1")
        self.assertEqual(web.send_to("c", "x", "127.0.0.1", 7501), "ok")
        asked = [TRIRECTL, "flows", "--all", "--json", "--port", "7501"]
        waiting.until(lambda: self.host.must(asked), "the sample")
        self.host.policy(allow + deny + 'mode = "audit"\n')
        self.assertEqual(web.send_to("c", "x", "127.0.0.1", 7501), "ok")
        self.assertEqual(self.flow_of(7501)["verdict"], "audit")

    def test_an_allow_rule_in_audit_allows_nothing_yet_and_says_so(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        port = web.serve("tcp", "127.0.0.1")
        self.host.policy(
            '[[allow]]\nname = "trial"\nfrom = "@host"\nto = "app=web"\nmode = "audit"\n'
        )
        self.assert_refused(plain.exchange("tcp", "127.0.0.1", port))
        self.assertIn("trial", self.flow_of(port, "deny")["rule"])

    def flow_of(self, port, verdict="audit"):
        def reported():
            return [
                flow
                for flow in self.host.flows()
                if flow.get("port") == port and flow["verdict"] == verdict
            ]

        return waiting.until(reported, f"a flow to port {port} with the verdict {verdict}")[0]

    def test_a_rule_that_logs(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        port = web.serve("tcp", "127.0.0.1")
        self.host.policy(
            f'[[allow]]\nname = "noted"\nfrom = "@host"\nto = "app=web"\nports = ["tcp/{port}"]\nlog = true\n'
        )
        self.assert_allowed(plain.exchange("tcp", "127.0.0.1", port))
        flow = waiting.until(
            lambda: [flow for flow in self.host.flows() if flow.get("port") == port],
            "the flow is logged",
        )[0]
        self.assertEqual(flow["verdict"], "allow")
        self.assertIn("noted", flow["rule"])

    @staticmethod
    def ends(client):
        sent = client.send_text("live", "ping")
        return sent != "ok" or client.receive("live").get("text") != "ping"

    def test_a_rule_expires(self):
        web, db = self.host.labelled("app=web"), self.host.labelled("app=db")
        opened, blocked = db.serve("tcp", "127.0.0.1"), db.serve("tcp", "127.0.0.1")
        soon = (datetime.now(timezone.utc) + timedelta(seconds=6)).replace(microsecond=0)
        until = soon.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.host.explicit_reload(
            f'[[allow]]\nname = "repair"\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/{opened}"]\n'
            f"until = {until}\n"
            f'[[allow]]\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/{blocked}"]\n'
            f'[[deny]]\nname = "incident"\nfrom = "app=web"\nto = "app=db"\nports = ["tcp/{blocked}"]\n'
            f"until = {until}\n"
        )
        status = self.host.status()["policy"]
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", opened))
        web.open("live", "tcp", "127.0.0.1")
        self.assert_allowed(web.connect("live", "127.0.0.1", opened))
        self.assert_allowed(web.send_text("live", "ping"))
        self.assertEqual(web.receive("live"), {"text": "ping"})
        self.assert_refused(web.exchange("tcp", "127.0.0.1", blocked))
        self.assertIn(f"incident' (policy.toml:11:1) expires at {until}", self.host.log_text())
        question = ("--from", "app=web", "--to", "app=db", "--port", str(opened), "--json")
        explained = json.loads(self.host.trirectl("policy", "explain", *question).stdout)
        self.assertEqual((explained["passes"], explained["rule"]["until"]), (True, until))
        self.assertLess(datetime.now(timezone.utc), soon, "the machine is too slow for this test")

        time.sleep((soon - datetime.now(timezone.utc)).total_seconds() + 1)
        self.assert_refused(web.exchange("tcp", "127.0.0.1", opened))
        self.assert_allowed(web.exchange("tcp", "127.0.0.1", blocked))
        waiting.until(lambda: self.ends(web), "the live connection ends", 3)
        self.assertIn("allow 'repair' (policy.toml:1:1) has expired", self.host.log_text())
        after = self.host.status()["policy"]
        self.assertEqual(after["digest"], status["digest"])
        self.assertEqual(after["generation"], status["generation"])
        self.assertEqual(after["rules"], 1)
        self.assertEqual(sum("this rule expired at" in each for each in after["warnings"]), 2)
        explained = json.loads(self.host.trirectl("policy", "explain", *question).stdout)
        self.assertFalse(explained["passes"])
        checked = self.host.trirectl("policy", "check")
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.assertIn(f"policy.toml:1:1: warning: this rule expired at {until}", checked.stdout)

    def test_ports_behind_a_dnat_are_the_real_ones(self):
        web, plain = self.host.labelled("app=web"), self.host.plain()
        port, other = web.serve("tcp", LOCAL4), web.serve("tcp", LOCAL4)
        self.host.nft(
            "table ip foreign {\nchain out {\ntype nat hook output priority -100\n"
            f"tcp dport 8080 dnat to {LOCAL4}:{port}\ntcp dport 8081 dnat to {LOCAL4}:{other}\n}}\n}}\n"
        )
        self.addCleanup(self.host.nft, "delete table ip foreign")
        self.host.policy(
            f'[[allow]]\nfrom = "@host"\nto = "app=web"\nports = ["tcp/{port}", "tcp/8081"]\n'
        )
        self.assert_allowed(plain.exchange("tcp", "10.99.0.1", 8080))
        self.assert_refused(plain.exchange("tcp", "10.99.0.1", 8081))

    def setUp(self):
        super().setUp()
        self.host.explicit_reload("")


class Multicast(HostCase):
    """Rules see one of several receiving sockets; the gate decides at each."""

    GROUP, PORT = "224.0.0.251", 5353

    def sender(self, agent):
        self.assertEqual(agent.open("s", "udp", "127.0.0.1"), "ok")
        agent.join("s", self.GROUP)
        return agent

    def listener(self, agent):
        self.assertEqual(agent.open("m", "udp", self.GROUP, self.PORT), "ok")
        agent.join("m", self.GROUP)
        return agent

    def test_others_receive_it(self):
        listener, sender = self.listener(self.host.plain()), self.sender(self.host.plain())
        self.assertEqual(sender.send_to("s", "to all", self.GROUP, self.PORT), "ok")
        self.assertEqual(listener.receive("m"), {"text": "to all"})

    def test_each_receiver_is_judged(self):
        self.host.explicit_reload('[[allow]]\nfrom = "@host"\nto = "app=open"\n')
        listeners = {
            labels: self.listener(self.host.labelled(labels)) for labels in ("app=web", "app=open")
        }
        senders = {"": self.host.plain(), "app=web": self.host.labelled("app=web")}
        for source, agent in senders.items():
            self.sender(agent).send_to("s", f"of {source}", self.GROUP, self.PORT)
            for labels, listener in listeners.items():
                allowed = labels == (source or "app=open")
                self.assertEqual(
                    listener.receive("m", timeout=0.2),
                    {"text": f"of {source}"} if allowed else {"error": "timeout"},
                    f"{source or 'a process without labels'} to {labels}",
                )

    def test_a_workload_in_the_group_takes_it_from_nobody(self):
        self.host.explicit_reload("")
        for first in ("plain", "labelled"):
            agents = {"labelled": lambda: self.host.labelled("app=web"), "plain": self.host.plain}
            made = {
                kind: self.listener(agents[kind]())
                for kind in (first, *(kind for kind in agents if kind != first))
            }
            self.assertEqual(
                self.sender(self.host.plain()).send_to("s", "to all", self.GROUP, self.PORT), "ok"
            )
            self.assertEqual(made["plain"].receive("m"), {"text": "to all"}, f"{first} first")
            self.assertEqual(
                made["labelled"].receive("m", timeout=0.2), {"error": "timeout"}, f"{first} first"
            )
            self.host.kill_agents()

    def test_a_workload_that_sends_is_judged(self):
        listener = self.listener(self.host.plain())
        sender = self.sender(self.host.labelled("app=web"))
        for policy, answer in (
            ("", {"error": "timeout"}),
            ('[[allow]]\nfrom = "app=web"\nto = "@host"\n', {"text": "to all"}),
        ):
            self.host.explicit_reload(policy)
            sender.send_to("s", "to all", self.GROUP, self.PORT)
            self.assertEqual(listener.receive("m", timeout=0.5), answer, policy)


class Outside(HostCase):
    """A neighbor in a namespace of its own, on the other end of a link."""

    OUTER4, INNER4, OUTER6, INNER6 = "192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        host = cls.host
        cls.neighbour = host.undo.name("n")
        host.undo.add("netns", cls.neighbour)
        host.ip(f"netns add {cls.neighbour}")
        host.ip(f"link add wire type veth peer name wire netns {cls.neighbour}")
        for address in (f"{cls.INNER4}/24", f"{cls.INNER6}/64 nodad"):
            host.ip(f"addr add {address} dev wire")
        for address in (f"{cls.OUTER4}/24", f"{cls.OUTER6}/64 nodad"):
            host.ip(f"-n {cls.neighbour} addr add {address} dev wire")
        host.ip("link set wire up")
        host.ip(f"-n {cls.neighbour} link set wire up")

    def setUp(self):
        super().setUp()
        self.host.explicit_reload("")
        self.outside = self.host.plain(["nsenter", f"--net=/run/netns/{self.neighbour}"])
        self.web = self.host.labelled("app=web")

    def test_the_world_is_refused_both_ways(self):
        for kind, inner, outer in (
            ("tcp", self.INNER4, self.OUTER4),
            ("udp", self.INNER6, self.OUTER6),
            ("tcp", self.INNER6, self.OUTER6),
        ):
            port = self.web.serve(kind, inner)
            self.assert_refused(self.outside.exchange(kind, inner, port), f"in {kind} {inner}")
            self.assertEqual(self.web.served(kind, port), {"accepted": 0, "bytes": 0})
            port = self.outside.serve(kind, outer)
            self.assert_refused(self.web.exchange(kind, outer, port), f"out {kind} {outer}")
            self.assertEqual(self.outside.served(kind, port), {"accepted": 0, "bytes": 0})

    def test_workloads_receive_no_multicast_from_elsewhere(self):
        """Rules see one of several receivers, so multicast is dropped even if policy allows that
        one."""
        self.host.explicit_reload('[[allow]]\nfrom = "@world"\nto = "app=web"\n')
        group, port = "224.0.0.251", 5353
        plain = self.host.plain()
        for agent in (self.web, plain):
            self.assertEqual(agent.open("m", "udp", group, port), "ok")
            agent.join("m", group, self.INNER4)
        self.assertEqual(self.outside.open("s", "udp", self.OUTER4), "ok")
        self.outside.join("s", group, self.OUTER4)
        self.assertEqual(self.outside.send_to("s", "to all", group, port), "ok")
        self.assertEqual(plain.receive("m"), {"text": "to all"})
        self.assertEqual(self.web.receive("m", timeout=0.2), {"error": "timeout"})

    def group(self, labels, *arguments, prefix=()):
        process = self.host.popen(
            [TRIRUN, "--label", labels, "--", *prefix]
            + ["python3", "-c", GROUP, *arguments, self.INNER4],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process, process.stdout.readline().strip()

    def test_a_group_of_listeners_gives_nobody_anothers_connections(self):
        """Rules and TCP look up members of the group independently. From outside, a group that has
        two members receives nothing."""
        self.host.explicit_reload('[[allow]]\nfrom = "@world"\nto = "app=web"\n')

        def attempts(count):
            for i in range(count):
                self.outside.open(f"c{i}", "tcp", self.OUTER4)
                yield self.outside.connect(f"c{i}", self.INNER4, int(port), timeout=0.05)
                self.outside.close(f"c{i}")

        def taken(process):
            process.stdin.write("end\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        first, port = self.group("app=web", "0", "choose")
        self.assertEqual(set(attempts(20)), {"ok"}, "of one workload")
        second, joined = self.group("app=db", port, "join")
        self.assertEqual(joined, port)
        self.assertNotIn("ok", set(attempts(60)))
        self.assertEqual(taken(second), 0, "connections to app=web that app=db was given")
        self.assertEqual(taken(first), 20)
        self.assertGreater(self.host.status()["gate"]["refused"]["group"], 0)

    def test_a_member_of_a_group_deep_below_its_workload_gets_nobody_elses(self):
        """The lookup of a group's members walks up a limited number of cgroups. A socket whose
        workload it does not find must not count as @host's, not even for the next sender over
        lo."""
        self.host.explicit_reload('[[allow]]\nfrom = ["@world", "@host"]\nto = "app=web"\n')
        first, port = self.group("app=web", "0", "choose")
        enter = ["python3", "-c", GO_DEEP, self.host.cgroups]
        second, joined = self.group("app=db", port, "join", prefix=enter)
        self.assertEqual(joined, port)
        # The gate's memory is per processor, so both send from the same one.
        pinned = ["python3", "-c", ON_ONE_PROCESSOR]
        plain = self.host.plain(pinned)
        outside = self.host.plain(["nsenter", f"--net=/run/netns/{self.neighbour}", *pinned])
        allowed, brief = 0, 0.02 * waiting.PATIENCE
        for i in range(60):
            # The gate forgets all numbers when a workload comes. If the kernel chooses app=db's
            # socket for the next packet, its number is remembered from that packet, and a look
            # at the group finds it there: so try several times.
            if i % 6 == 0:
                self.host.labelled("app=other")
            outside.open(f"c{i}", "tcp", self.OUTER4)
            outcome = outside.connect(f"c{i}", self.INNER4, int(port), timeout=brief)
            self.assertNotEqual(outcome, "ok")
            plain.open(f"c{i}", "tcp", self.INNER4)
            outcome = plain.connect(f"c{i}", self.INNER4, int(port), timeout=brief)
            allowed += outcome == "ok"
        for process in (first, second):
            process.stdin.write("end\n")
            process.stdin.flush()
        self.assertEqual(second.stdout.readline(), "0\n", "connections that app=db was given")
        # A connection that is accepted late is counted only there.
        self.assertGreaterEqual(int(first.stdout.readline()), allowed)
        self.assertGreater(allowed, 0)

    def test_processes_without_labels_reach_the_world(self):
        plain = self.host.plain()
        for kind, inner, outer in (
            ("tcp", self.INNER4, self.OUTER4),
            ("udp", self.INNER6, self.OUTER6),
        ):
            self.assert_allowed(
                self.outside.exchange(kind, inner, plain.serve(kind, inner)), f"in {kind}"
            )
            self.assert_allowed(
                plain.exchange(kind, outer, self.outside.serve(kind, outer)), f"out {kind}"
            )

    def test_world_rules(self):
        plain = self.host.plain()
        for kind, inner, outer in (
            ("tcp", self.INNER4, self.OUTER4),
            ("udp", self.INNER6, self.OUTER6),
        ):
            entry, unnamed = self.web.serve(kind, inner), self.web.serve(kind, inner)
            away, closed = self.outside.serve(kind, outer), self.outside.serve(kind, outer)
            self.host.policy(
                f'[[allow]]\nfrom = "@world"\nto = "app=web"\nports = ["{kind}/{entry}"]\n'
                f'[[allow]]\nfrom = "app=web"\nto = "@world"\nports = ["{kind}/{away}"]\n'
            )
            self.assert_allowed(self.outside.exchange(kind, inner, entry), f"in {kind}")
            self.assert_refused(self.outside.exchange(kind, inner, unnamed), f"in {kind}")
            self.assert_allowed(self.web.exchange(kind, outer, away), f"out {kind}")
            self.assert_refused(self.web.exchange(kind, outer, closed), f"out {kind}")
            self.assert_refused(plain.exchange(kind, inner, entry), f"@host is not @world: {kind}")

    def test_networks(self):
        entry, away = self.web.serve("tcp", self.INNER4), self.outside.serve("tcp", self.OUTER4)
        for cidr, allowed in (
            ("192.0.2.0/28", True),
            ("192.0.2.3/32", False),
            ("192.0.2.2/32", True),
            ("198.51.100.0/24", False),
        ):
            self.host.policy(
                f'[[network]]\nname = "n"\ncidrs = ["{cidr}"]\n[[allow]]\nfrom = "@n"\nto = "app=web"\n'
                '[[allow]]\nfrom = "app=web"\nto = "@n"\n'
            )
            check = self.assert_allowed if allowed else self.assert_refused
            check(self.outside.exchange("tcp", self.INNER4, entry), f"in {cidr}")
            check(self.web.exchange("tcp", self.OUTER4, away), f"out {cidr}")

    def test_neighbour_discovery_and_unreachable_ports_work(self):
        """ICMP errors of allowed flows pass: an unused port refuses at once."""
        self.host.policy('[[allow]]\nfrom = "app=web"\nto = "@world"\n')
        self.assertEqual(self.web.exchange("udp", self.OUTER4, 9), "ECONNREFUSED")
        self.assertEqual(self.web.exchange("udp", self.OUTER6, 9), "ECONNREFUSED")


if __name__ == "__main__":
    unittest.main()
