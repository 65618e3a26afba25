# SPDX-License-Identifier: Apache-2.0
"""`trirectl quarantine` and `release`: no traffic of the workload passes, whatever happens to the
daemon, the configuration and the workload itself, until the order ends."""

import json
import shutil
import signal
import unittest

from tests.system import agent, waiting
from tests.system.crossing import PYTHON
from tests.system.host import TRIRECTL, HostCase
from tests.system.lab import LabCase

SERVER = "[Service]\nExecStart=/usr/bin/busybox httpd -f -p {port} -h /srv\nRestart=always\n"
NESTED_CGROUP = "/sys/fs/cgroup/system.slice/nested.service"
NESTED = (
    f"mkdir {NESTED_CGROUP}/first\necho 0 >{NESTED_CGROUP}/first/cgroup.procs\n"
    "exec /usr/bin/busybox httpd -f -p 6002 -h /srv\n"
)
UNIT = (
    '[[unit]]\nname = "shop.service"\nlabels = { app = "shop" }\n'
    '[[unit]]\nname = "nested.service"\nlabels = { app = "nested" }\n'
)


class Processes(HostCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.host.write, "identity.toml", "")
        unit = f"web-{self.id().rsplit('.')[-1]}"
        self.web = self.host.labelled("app=web", "--unit", unit)
        self.other = self.host.labelled("app=web")
        self.port = self.web.serve("tcp", "127.0.0.1")
        self.name = unit + ".scope"
        self.assertIn(self.name, [each["name"] for each in self.host.workloads()])
        self.assert_allowed(self.other.exchange("tcp", "127.0.0.1", self.port))

    def quarantine(self, *options):
        self.host.must([TRIRECTL, "quarantine", self.name, *options])
        self.addCleanup(self.host.run, [TRIRECTL, "release", self.name])

    def assert_shut(self, note=""):
        """Neither as a server nor as a client, over either protocol."""
        for kind in ("tcp", "udp"):
            for client, server in ((self.web, self.other), (self.other, self.web)):
                port = server.serve(kind, "127.0.0.1")
                outcome = client.exchange(kind, "127.0.0.1", port, timeout=0.4)
                self.assertNotEqual(outcome, "ok", (note, kind))
        self.assertNotEqual(
            self.other.exchange("tcp", "127.0.0.1", self.port, timeout=0.4), "ok", note
        )

    def assert_open(self):
        self.assert_allowed(self.other.exchange("tcp", "127.0.0.1", self.port))
        here = self.other.serve("udp", "127.0.0.1")
        self.assert_allowed(self.web.exchange("udp", "127.0.0.1", here))

    def test_from_the_order_to_the_release(self):
        self.quarantine("--reason", "beacons to 203.0.113.9")
        self.assert_shut()
        self.host.must([TRIRECTL, "release", self.name])
        self.assert_open()

    def test_open_flows_end(self):
        """Whichever end began them. What the other end sends does not arrive either."""
        flows = []
        for kind in ("tcp", "udp"):
            for client, server in ((self.web, self.other), (self.other, self.web)):
                port = server.serve(kind, "127.0.0.1")
                client.open(kind, kind, "127.0.0.1")
                self.assertEqual(client.connect(kind, "127.0.0.1", port), "ok")
                flows.append((client, server, kind, port))

        def is_answered(client, kind):
            sent = client.send_text(kind, "x", timeout=1)
            return sent == "ok" and client.receive(kind, timeout=1).get("text") == "x"

        for client, _, kind, _ in flows:
            self.assertTrue(is_answered(client, kind), kind)
        before = [server.served(kind, port) for _, server, kind, port in flows]
        self.quarantine()
        for client, _, kind, _ in flows:
            self.assertFalse(is_answered(client, kind), kind)
        after = [server.served(kind, port) for _, server, kind, port in flows]
        self.assertEqual(before, after, "nothing has arrived")

    def test_restarts_reloads_and_labels_of_the_host_do_not_end_it(self):
        self.quarantine()
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.host.restart(number)
            self.assert_shut(number)
        self.host.must([TRIRECTL, "reload"])
        self.assert_shut("reload")
        self.host.write("identity.toml", '[host]\nlabels = { zone = "eu" }\n')
        self.host.must([TRIRECTL, "reload"])
        self.assert_shut("labels of the host")
        self.host.must([TRIRECTL, "release", self.name])
        self.assert_open()
        self.host.restart(signal.SIGKILL)
        self.assert_open()

    def test_who_and_why_is_shown(self):
        self.quarantine("--reason", "beacons")
        listed = next(each for each in self.host.workloads() if each["name"] == self.name)
        self.assertEqual((listed["state"], listed["hold"]["reason"]), ("quarantined", "beacons"))
        self.assertTrue(listed["hold"]["by"])
        (hold,) = self.host.status()["holds"]
        self.assertEqual((hold["name"], hold["live"]), (self.name, True))
        for argv in (
            ["workloads"],
            ["status"],
            ["policy", "explain", "--from", self.name, "--to", "app=web", "--port", "tcp/80"],
        ):
            self.assertRegex(self.host.trirectl(*argv).stdout, r"ordered by \S+ at 2.*Z: beacons")
        self.assertRegex(self.host.log_text(), rf"{self.name}: quarantined, ordered by .*beacons")
        self.host.must([TRIRECTL, "release", self.name])
        self.assertRegex(self.host.log_text(), rf"{self.name}: released by \S+")
        self.assertEqual(self.host.status()["holds"], [])

    def test_the_kernel_says_who_gives_the_order(self):
        """Neither the environment nor the request does."""
        request = {
            "method": "quarantine",
            "params": {"name": self.name, "reason": "", "user": "mallory"},
        }
        client = (
            "import socket, sys\n"
            "client = socket.socket(socket.AF_UNIX)\n"
            "client.connect(sys.argv[1])\n"
            "client.sendall(sys.argv[2].encode() + b'\\n')\n"
            "print(client.recv(65536).decode())\n"
        )
        path = self.host.runtime + "/trireme.sock"
        for argv in (
            ["env", "SUDO_USER=mallory", TRIRECTL, "quarantine", self.name],
            ["python3", "-c", client, path, json.dumps(request)],
        ):
            self.host.must(argv)
            listed = next(each for each in self.host.workloads() if each["name"] == self.name)
            self.assertNotIn(listed["hold"]["by"], ("", "mallory"), argv)
            self.host.must([TRIRECTL, "release", self.name])

    def test_the_order_for_a_process_ends_with_it(self):
        self.quarantine()
        self.host.kill_agents()
        waiting.until(lambda: not self.host.status()["holds"], "the order has ended", 10)
        self.assertNotEqual(self.host.trirectl("release", self.name).returncode, 0)

    def test_invalid_orders(self):
        for argv, text in (
            (["quarantine", "none"], "no workload is named 'none'"),
            (["quarantine", self.name, "--reason", "a\nb"], "control characters"),
            (["quarantine", self.name, "--reason", "x" * 201], "longer than 200"),
            (["release", self.name], "no quarantine order"),
        ):
            done = self.host.trirectl(*argv)
            self.assertEqual(done.returncode, 1, argv)
            self.assertIn(text, done.stderr)
        self.assertEqual(self.host.trirectl("quarantine").returncode, 2)
        self.assert_open()
        self.quarantine()
        again = self.host.trirectl("quarantine", self.name)
        self.assertEqual(again.returncode, 1)
        self.assertIn("already quarantined", again.stderr)


class UnitsAndContainers(LabCase):
    FILES = (
        ("etc/systemd/system/shop.service", SERVER.format(port=6001)),
        (
            "etc/systemd/system/nested.service",
            "[Service]\nDelegate=yes\nExecStart=/bin/sh /srv/nested.sh\n",
        ),
        ("srv/nested.sh", NESTED),
        ("etc/trireme/identity.toml", UNIT),
    )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        shutil.copy(agent.__file__, cls.lab.root + "/srv/agent.py")

    def setUp(self):
        super().setUp()
        self.addCleanup(self.lab.sh, "systemctl stop shop nested; systemctl reset-failed")

    def agent(self, argv):
        made = agent.Agent(argv, spawn=self.lab.popen, program="/srv/agent.py")
        self.addCleanup(made.end)
        made.cgroup()  # answers only after it has been enrolled
        return made

    def quarantine(self, name):
        self.lab.must(f"trirectl quarantine {name} --reason test")
        self.addCleanup(self.lab.sh, f"trirectl release {name}")

    def holds(self):
        return {each["name"]: each["live"] for each in self.lab.status()["holds"]}

    def test_a_unit_that_exits_does_not_get_out(self):
        self.lab.must("systemctl start shop")
        self.lab.await_served(6001, "app=shop")
        self.quarantine("shop.service")
        self.assertEqual(self.lab.ask(6001, "app=shop"), "")
        self.lab.must("systemctl kill -s KILL shop")  # systemd starts it again
        prober = self.lab.prober(6001)
        self.lab.sh("systemctl restart shop")
        self.assertEqual(self.lab.ask(6001, "app=shop"), "")
        self.assertIn(
            "ordered by", self.lab.must("journalctl -b -u shop --no-pager"), "why it does not start"
        )
        self.lab.must("systemctl stop shop")
        waiting.until(lambda: self.holds() == {"shop.service": False}, "it is held, but not live")
        self.lab.must("systemctl stop trireme && trirectl flush && rm -rf /run/trireme")
        self.lab.start_trireme()  # the state after a reboot
        self.assertEqual(self.holds(), {"shop.service": False})
        self.lab.sh("systemctl reset-failed; systemctl start shop")
        self.assertEqual(self.lab.ask(6001, "app=shop"), "")
        self.assertEqual(self.lab.end_prober(prober), 0)
        self.lab.must("trirectl release shop.service")
        self.lab.must("systemctl reset-failed; systemctl start shop")
        self.lab.await_served(6001, "app=shop")

    def test_an_entry_that_is_removed_does_not_end_it(self):
        self.addCleanup(self.lab.sh, "trirectl reload")
        self.addCleanup(self.lab.write, "etc/trireme/identity.toml", UNIT)
        self.lab.must("systemctl start shop")
        self.lab.await_served(6001, "app=shop")
        self.quarantine("shop.service")
        self.lab.write("etc/trireme/identity.toml", "")
        self.lab.must("trirectl reload")
        self.assertEqual(self.lab.ask(6001), "")
        reasons = self.lab.must("journalctl -b -u shop --no-pager").count("ordered by")
        prober = self.lab.prober(6001)
        self.lab.sh("systemctl stop shop; systemctl daemon-reload; systemctl start shop")
        self.assertGreater(
            self.lab.must("journalctl -b -u shop --no-pager").count("ordered by"),
            reasons,
            "why it does not start",
        )
        self.assertEqual(self.lab.ask(6001), "")
        self.assertEqual(self.lab.end_prober(prober), 0)
        self.lab.must("trirectl release shop.service")
        waiting.until(
            lambda: "trireme" not in self.lab.must("systemctl cat shop"), "the gate is removed"
        )
        self.lab.must("systemctl reset-failed; systemctl start shop")
        self.lab.await_served(6001)

    def test_a_unit_with_cgroups_of_its_own(self):
        """Also with one that is made while the unit is held, and for open connections."""
        self.lab.must("systemctl start nested")
        self.lab.await_served(6002, "app=nested")
        client = self.agent(["trirun", "--label", "app=nested", "--unit", "nested-client", "--"])
        client.open("idle", "tcp", "127.0.0.1")
        self.assertEqual(client.connect("idle", "127.0.0.1", 6002), "ok")
        port = client.serve("tcp", "127.0.0.1")
        self.quarantine("nested.service")
        self.assertEqual(self.lab.ask(6002, "app=nested"), "")
        client.send_text("idle", "GET /served HTTP/1.0\r\n\r\n", timeout=1)
        self.assertFalse(client.receive("idle", timeout=2).get("text"))
        self.lab.must(f"mkdir {NESTED_CGROUP}/second")

        def in_second(command):
            return self.lab.sh(
                f"sh -c 'echo 0 >{NESTED_CGROUP}/second/cgroup.procs && exec {command}'"
            )

        connect = f"timeout 2 busybox nc 127.0.0.1 {port} </dev/null"
        self.assertEqual(in_second("busybox httpd -p 6003 -h /srv").returncode, 0)
        in_second(connect)
        self.assertEqual(self.lab.ask(6003, "app=nested"), "")
        self.assertEqual(client.served("tcp", port)["accepted"], 0)
        self.lab.must("trirectl release nested.service")
        self.lab.await_served(6002, "app=nested")
        self.lab.await_served(6003, "app=nested")
        in_second(connect)
        self.assertEqual(client.served("tcp", port)["accepted"], 1)

    def container(self, name):
        return json.loads(self.lab.must(f"docker inspect {name}"))[0]["Id"]

    def test_a_container_that_restarts_is_still_held(self):
        self.lab.must(
            "docker run -d --name web --restart=always --stop-timeout 1 -l app=web --net=host"
            " busybox httpd -f -p 7001 -h /srv"
        )
        self.lab.await_state(self.container("web"), "enforced")
        self.lab.await_served(7001, "app=web")
        self.quarantine("web")
        self.assertEqual(self.lab.ask(7001, "app=web"), "")
        prober = self.lab.prober(7001)
        for action in (
            "docker kill web; docker start web",
            "docker restart web",
            "systemctl restart trireme",
            "systemctl restart docker",
            "docker rm -f web; docker run -d --name web -l app=web --net=host"
            " busybox httpd -f -p 7001 -h /srv",
        ):
            self.lab.must(action, 120)
            waiting.until(
                lambda: (self.lab.workload_of(self.container("web")) or {})
                .get("reason", "")
                .startswith("ordered by"),
                f"it is held after {action}",
                30,
            )
            waiting.until(lambda: self.lab.must("ss -Hltn sport = :7001"), "its server listens", 20)
            self.assertEqual(self.lab.ask(7001, "app=web"), "", action)
        self.assertEqual(self.lab.end_prober(prober), 0)
        self.lab.must("trirectl release web")
        self.lab.await_served(7001, "app=web")

    def test_a_bridge_container(self):
        for name in ("web", "client"):
            self.lab.must(
                f"docker run -d --name {name} -l app=web busybox httpd -f -p 7001 -h /srv"
            )
            self.lab.await_state(self.container(name), "enforced")
        address = self.lab.must("docker inspect -f '{{.NetworkSettings.IPAddress}}' web")

        def fetched(client):
            where = address if client == "client" else "127.0.0.1"
            done = self.lab.sh(
                f"docker exec {client} timeout 3 wget -qO- http://{where}:7001/served"
            )
            return done.stdout.strip()

        waiting.until(lambda: fetched("client") == "served", "the container is reached", 15)
        self.quarantine("web")
        self.assertEqual((fetched("client"), fetched("web")), ("", ""))
        self.lab.must("trirectl release web")
        waiting.until(lambda: fetched("client") == "served", "it is reached again", 15)

    def test_open_flows_of_a_bridge_container_end(self):
        """Whichever end began them. What the other end sends does not arrive either."""
        agents = {}
        addresses = {}
        for name in ("web", "client"):
            line = f"docker run -i --name {name} -l app=web {PYTHON} busybox"
            agents[name] = self.agent(line.split())
            self.lab.await_state(self.container(name), "enforced")
            addresses[name] = self.lab.must(
                f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {name}"
            )
        flows = []
        for kind in ("tcp", "udp"):
            for source, target in (("client", "web"), ("web", "client")):
                client, server = agents[source], agents[target]
                port = server.serve(kind, "0.0.0.0")
                client.open(kind, kind, "0.0.0.0")
                self.assertEqual(client.connect(kind, addresses[target], port), "ok")
                self.assertEqual(client.ask(kind, "x"), "x", (kind, source))
                flows.append((client, server, kind, port))
        self.quarantine("web")
        before = [server.served(kind, port) for _, server, kind, port in flows]
        for client, _, kind, _ in flows:
            client.send_text(kind, "y", timeout=1)
            self.assertFalse(client.receive(kind, timeout=1).get("text"), kind)
        after = [server.served(kind, port) for _, server, kind, port in flows]
        self.assertEqual(before, after, "nothing has arrived")
        self.lab.must("trirectl release web")
        _, _, _, port = flows[0]
        waiting.until(
            lambda: agents["client"].exchange("tcp", addresses["web"], port, timeout=3) == "ok",
            "the container is reached again",
            15,
        )


if __name__ == "__main__":
    unittest.main()
