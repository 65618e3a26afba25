# SPDX-License-Identifier: Apache-2.0
"""Docker's host-network containers, from the first instruction to the last, while Docker or trireme
restart or fail."""

import json
import random
import subprocess
import time
import unittest

from tests.system import waiting
from tests.system.host import LONG, kill_quietly
from tests.system.lab import LabCase

SERVE = "httpd -f -p {port} -h /srv"
FETCH = "wget -qO- http://127.0.0.1:{port}/served"
STRICT = "--cgroup-parent=trireme-docker.slice"


class Containers(LabCase):
    def run_container(self, options, command=None, image="busybox"):
        """Starts a detached host-network container with app=web. Returns its id."""
        return self.lab.must(
            f"docker run -d --net=host {options} {image} {command or SERVE.format(port=7001)}"
        )

    def assert_held(self, port, labels="app=web"):
        self.lab.await_served(port, labels)
        self.assertEqual(self.lab.ask(port), "")
        self.assertEqual(self.lab.ask(port, "app=other"), "")

    def test_labels_decide(self):
        container = self.run_container("-l app=web")
        self.lab.await_state(container, "enforced")
        self.assert_held(7001)
        mine = self.lab.workload_of(container)
        self.assertEqual((mine["kind"], mine["labels"]), ("container", {"app": "web"}))

    def test_labels_of_the_host_let_nobody_in(self):
        """A container without labels has only the labels of the host, which match no other
        workload."""
        place = "/etc/trireme/identity.d/host.toml"
        self.addCleanup(self.lab.sh, f"rm -f {place}; systemctl reload trireme")
        self.addCleanup(self.lab.policy, "")
        self.lab.write(place, '[host]\nlabels = { zone = "eu" }\n')
        self.lab.must("systemctl reload trireme")
        server = self.run_container("")
        client = self.run_container("", SERVE.format(port=7005))
        for container in (server, client):
            self.lab.await_state(container, "enforced")
            self.assertEqual(self.lab.workload_of(container)["labels"], {"zone": "eu"})

        def fetched(port):
            fetch = FETCH.format(port=port)
            return self.lab.sh(f"docker exec {client} {fetch}").stdout.strip()

        for baseline in ("same-labels", "any-common-label"):
            self.lab.policy(f'[defaults]\nbaseline = "{baseline}"\n')
            waiting.until(lambda: fetched(7005) == "served", "it reaches itself")
            self.assertEqual(fetched(7001), "", baseline)
        self.lab.policy('[[allow]]\nfrom = "zone=eu"\nto = "zone=eu"\n')
        self.assertEqual(fetched(7001), "served", "selectors see them")

    def test_exec_and_children(self):
        container = self.run_container("-l app=web")
        self.lab.await_state(container, "enforced")
        self.lab.must("busybox httpd -p 7002 -h /srv")
        self.lab.await_served(7002)
        self.lab.await_served(7001, "app=web")
        for port, answer in ((7001, "served"), (7002, "")):
            fetch = FETCH.format(port=port)
            for command in (fetch, f"sh -c '{fetch}'", f"sh -c '(setsid {fetch} & wait) | cat'"):
                self.assertEqual(
                    self.lab.sh(f"docker exec {container} {command}").stdout.strip(),
                    answer,
                    command,
                )
        # A server that `docker exec` started belongs to the container.
        self.lab.must(f"docker exec -d {container} {SERVE.format(port=7003)}")
        self.assert_held(7003)

    def test_a_container_in_anothers_network(self):
        first = self.run_container("-l app=web")
        second = self.lab.must(
            f"docker run -d --net=container:{first} -l app=db busybox {SERVE.format(port=7004)}"
        )
        for container in (first, second):
            self.lab.await_state(container, "enforced")
        self.assert_held(7001)
        self.assert_held(7004, "app=db")

    def test_pause_restart_and_kill(self):
        container = self.run_container("-l app=web")
        self.assert_held(7001)
        self.lab.must(f"docker pause {container}")
        self.assertEqual(self.lab.ask(7001), "")
        self.lab.must(f"docker unpause {container}")
        self.assert_held(7001)
        self.lab.must(f"docker restart -t 0 {container}")
        self.lab.await_state(container, "enforced")
        self.assert_held(7001)
        self.lab.must(f"docker kill {container}")
        waiting.until(lambda: self.lab.workload_of(container) is None, "it is no longer a workload")
        self.lab.must(f"docker start {container}")
        self.assert_held(7001)

    def test_a_crash_loop(self):
        """Every restart is under policy: a client with the same labels is served at times, an
        unlabeled process never."""
        self.lab.must(
            "docker run -d --name looping --restart=always --net=host -l app=web busybox "
            "sh -c 'httpd -f -p 7005 & sleep 0.3; kill $!'"
        )
        stranger = self.lab.prober(7005)
        waiting.until(
            lambda: int(self.lab.must("docker inspect -f '{{.RestartCount}}' looping")) >= 3,
            "three restarts",
            30,
            0.1,
        )
        self.assertEqual(self.lab.end_prober(stranger), 0)
        self.assertNotEqual(
            self.lab.must("docker inspect -f '{{.State.Status}}' looping"), "exited"
        )

    def test_the_start_window(self):
        """Containers listen from their first instruction. None accepts a single connection of an
        unlabeled process."""
        ports = range(7100, 7100 + (40 if LONG else 8))
        prober = self.lab.prober(*ports)
        for port in ports:
            strict = STRICT if port % 4 == 0 else ""
            self.lab.must(
                f"docker run -d --net=host {strict} -l app=web busybox {SERVE.format(port=port)}"
            )
        waiting.until(
            lambda: self.lab.status()["workloads"]["enforced"] >= len(ports), "all are enforced", 30
        )
        self.lab.await_served(ports[-1], "app=web")
        self.assertEqual(self.lab.end_prober(prober), 0)

    def test_a_start_needs_no_daemon(self):
        """A container that starts while the daemon is down is denied everything, and enforced when
        the daemon is back; both in the strict slice and by the BPF program that notices new
        cgroups."""
        for port, options in ((7006, STRICT), (7007, "")):
            self.lab.must("systemctl stop trireme")
            try:
                prober = self.lab.prober(port)
                container = self.run_container(f"-l app=web {options}", SERVE.format(port=port))
                waiting.until(
                    lambda: self.lab.sh(f"docker exec {container} true").returncode == 0, "it runs"
                )
                fetched = self.lab.sh(
                    f"docker exec {container} timeout 1 {FETCH.format(port=port)}"
                )
                self.assertEqual(fetched.stdout, "")
                self.assertEqual(self.lab.end_prober(prober), 0)
            finally:
                self.lab.start_trireme()
            self.lab.await_state(container, "enforced")
            self.assert_held(port)

    def test_who_is_no_workload_is_released_when_the_daemon_is_back(self):
        identity = "etc/trireme/identity.toml"
        with open(f"{self.lab.root}/{identity}", encoding="utf-8") as file:
            shipped = file.read()
        self.addCleanup(self.lab.start_trireme)
        self.addCleanup(self.lab.write, identity, shipped)
        self.lab.write(identity, '[docker]\ncontainers = "labelled"\n')
        self.lab.must("systemctl stop trireme")
        self.run_container("", SERVE.format(port=7011))
        bridged = self.lab.must("docker run -d busybox httpd -f -p 7012 -h /srv")
        address = self.lab.must("docker inspect -f '{{.NetworkSettings.IPAddress}}' " + bridged)
        far = f"curl -s --max-time 2 http://{address}:7012/served"
        self.assertEqual(self.lab.ask(7011), "")
        self.assertEqual(self.lab.sh(far).stdout, "")
        self.lab.start_trireme()
        self.lab.await_served(7011)
        waiting.until(
            lambda: self.lab.sh(far).stdout == "served\n", "the other container is served too", 15
        )
        # From here on the daemon sees new containers itself.
        self.run_container("", SERVE.format(port=7013))
        self.lab.await_served(7013)

    def test_killed_at_any_moment_no_container_is_open(self):
        """In the strict slice, and where the kernel quarantines new containers."""
        ports = range(7300, 7300 + (20 if LONG else 4))
        prober = self.lab.prober(*ports)
        for port in ports:
            self.lab.must("systemctl kill -s KILL trireme")
            time.sleep(random.random() / 2)  # a random moment of the next start
            strict = STRICT if port % 2 else ""
            self.lab.must(
                f"docker run -d --net=host {strict} -l app=web busybox {SERVE.format(port=port)}"
            )
        waiting.until(
            lambda: self.lab.sh("trirectl status").returncode == 0,
            "systemd has restarted the daemon",
            30,
            0.1,
        )
        waiting.until(
            lambda: self.lab.status()["workloads"]["enforced"] >= len(ports),
            "all are enforced",
            30,
            0.1,
        )
        self.lab.await_served(ports[-1], "app=web")
        self.assertEqual(self.lab.end_prober(prober), 0)

    def test_an_existing_container_is_found_at_start(self):
        self.lab.must("systemctl stop trireme && trirectl flush")
        container = self.run_container("-l app=web")
        self.lab.await_served(7001)
        self.lab.start_trireme()
        self.lab.await_state(container, "enforced")
        self.assert_held(7001)

    def test_flush_reaches_containers_of_every_kind(self):
        """A container with a network namespace of its own, and one that is in quarantine from its
        start."""
        bridged = self.lab.must("docker run -d -l app=web busybox httpd -f -p 7010 -h /srv")
        many = " ".join(f"-l key{i}=v" for i in range(130))  # more than an identity can have
        quarantined = self.run_container("-l app=web " + many)
        self.lab.await_state(bridged, "enforced")
        self.lab.await_state(quarantined, "quarantined")
        address = self.lab.must("docker inspect -f '{{.NetworkSettings.IPAddress}}' " + bridged)
        pid = self.lab.must("docker inspect -f '{{.State.Pid}}' " + bridged)
        fetches = [
            f"curl -s --max-time 2 http://{target}/served"
            for target in (f"{address}:7010", "127.0.0.1:7001")
        ]
        self.assertEqual([self.lab.sh(each).stdout.strip() for each in fetches], ["", ""])
        foreign = f"nsenter -n -t {pid} nft add table inet others"
        self.lab.must(foreign)
        self.lab.must("systemctl stop trireme")
        try:
            self.assertEqual([self.lab.sh(each).stdout.strip() for each in fetches], ["", ""])
            report = json.loads(self.lab.must("trirectl flush --json"))
            self.assertEqual((report["table"], report["containers"]), (True, 1))
            self.assertEqual([self.lab.must(each) for each in fetches], ["served", "served"])
            self.assertEqual(
                self.lab.must(f"nsenter -n -t {pid} nft list tables"), "table inet others"
            )
        finally:
            self.lab.start_trireme()
        self.lab.await_state(bridged, "enforced")
        self.assertEqual(self.lab.sh(fetches[0]).stdout.strip(), "")

    def test_what_began_before_it_is_cut(self):
        """Before trireme starts, an unlabeled process is connected to the container. The start cuts
        the connection."""
        self.lab.must("systemctl stop trireme && trirectl flush")
        try:
            container = self.run_container("-l app=web", "nc -ll -p 7009 -e cat")
            script = (
                "import socket, sys, time\n"
                "end = time.monotonic() + 20\n"
                "while time.monotonic() < end:\n"
                "    try:\n"
                "        s = socket.create_connection(('127.0.0.1', 7009), 5)\n"
                "        break\n"
                "    except ConnectionRefusedError:\n"
                "        pass\n"
                "s.settimeout(3)\n"
                "for line in sys.stdin:\n"
                "    try:\n"
                "        s.sendall(b'x')\n"
                "        answer = s.recv(1)\n"
                "        print('echo' if answer else 'end', flush=True)\n"
                "    except OSError as error:\n"
                "        print(type(error).__name__, flush=True)\n"
            )
            client = self.lab.popen(
                ["/usr/bin/python3", "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.addCleanup(kill_quietly, client)

            def exchange():
                client.stdin.write("go\n")
                client.stdin.flush()
                return client.stdout.readline().strip()

            self.assertEqual(exchange(), "echo")
        finally:
            self.lab.start_trireme()
        self.lab.await_state(container, "enforced")
        self.assertNotEqual(exchange(), "echo")

    def test_labels_of_the_image_are_no_identity(self):
        container = self.lab.must(f"docker run -d --net=host impostor {SERVE.format(port=7007)}")
        waiting.until(lambda: self.lab.workload_of(container), "it is listed")
        self.assertNotIn("app", self.lab.workload_of(container)["labels"])
        given = self.lab.must(
            f"docker run -d --net=host -l app=nginx impostor {SERVE.format(port=7014)}"
        )
        for each in (container, given):  # an image label looks the same in both
            waiting.until(
                lambda: "image_labels" in json.dumps(self.lab.workload_of(each)["warnings"]),
                "there is a warning about the label",
            )
        self.assertEqual(self.lab.ask(7007, "app=nginx"), "")

    def test_docker_restarts(self):
        container = self.run_container("-l app=web --restart=always")
        self.assert_held(7001)
        self.lab.must("systemctl kill -s KILL docker", 60)
        self.assertEqual(self.lab.ask(7001), "")
        self.lab.must("systemctl restart docker", 120)
        self.lab.must(f"docker start {container}")
        self.assert_held(7001)
        fresh = self.run_container("-l app=fresh", SERVE.format(port=7008))
        self.lab.await_state(fresh, "enforced")
        self.assert_held(7008, "app=fresh")

    def test_one_bad_container_stops_nobody(self):
        """A label that is not valid, and a container that ends at once, among valid ones."""
        bad = self.run_container(
            '-l "app=web" -l "Bad/Key!=x" -l "spaces=x y" -l "empty="', SERVE.format(port=7009)
        )
        self.lab.must("docker run -d --net=host -l app=web busybox true")
        good = self.run_container("-l app=web")
        self.lab.await_state(good, "enforced")
        self.assert_held(7001)
        self.assertIsNotNone(self.lab.workload_of(bad))
        self.assertEqual(self.lab.ask(7009), "")

    def test_a_published_port_of_a_bridge_container(self):
        """To the container, any client without labels is @world, also a process of this host. A
        workload is allowed by its own address."""
        container = self.lab.must("docker run -d -p 7010:80 -l app=web nginx")
        self.lab.await_state(container, "enforced")
        address = self.lab.must(
            f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {container}"
        )
        waiting.until(
            lambda: self.lab.sh(
                f"trirun --label app=web -- curl -sS --max-time 5 http://{address}"
            ).stdout.strip()
            == "hello from nginx",
            "a workload with the same labels is allowed",
            20,
        )
        for place in ("127.0.0.1:7010", "172.17.0.1:7010", address):
            self.assertNotEqual(
                self.lab.sh(f"curl -sS --max-time 5 http://{place}").stdout.strip(),
                "hello from nginx",
                place,
            )
        self.assertNotEqual(
            self.lab.sh(
                f"trirun --label app=other -- curl -sS --max-time 5 http://{address}"
            ).returncode,
            0,
        )
        self.addCleanup(self.lab.policy, "")
        self.lab.policy('[[allow]]\nfrom = "@world"\nto = "app=web"\nports = ["tcp/80"]\n')
        for place in ("127.0.0.1:7010", "172.17.0.1:7010", address):
            self.assertEqual(
                self.lab.must(f"curl -sS --max-time 5 http://{place}"), "hello from nginx", place
            )

    def test_two_bridge_containers(self):
        server = self.lab.must("docker run -d -l app=web nginx")
        self.lab.await_state(server, "enforced")
        address = self.lab.must(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {server}")
        fetch = f"curlimages/curl curl -sS --max-time 5 http://{address}"
        waiting.until(
            lambda: self.lab.sh(f"docker run --rm -l app=web {fetch}").stdout.strip()
            == "hello from nginx",
            "same labels",
            20,
        )
        for labels in ("-l app=other", ""):
            self.assertEqual(self.lab.sh(f"docker run --rm {labels} {fetch}").stdout, "", labels)
        # In the server's network namespace, with labels of its own.
        self.assertEqual(
            self.lab.sh(
                f"docker run --rm --net=container:{server} -l app=other curlimages/curl curl -sS --max-time 5 http://127.0.0.1"
            ).stdout,
            "",
        )
        self.assertEqual(
            self.lab.must(
                f"docker run --rm --net=container:{server} -l app=web curlimages/curl curl -sS --max-time 5 http://127.0.0.1"
            ),
            "hello from nginx",
        )

    def test_a_network_that_cannot_be_written_harms_its_own_container_alone(self):
        """A process with CAP_NET_ADMIN in a container's network may own a table with our name
        there. Until it ends, the kernel refuses trireme's changes to that table."""
        bad = self.lab.must("docker run -d -l app=bad nginx")
        good = self.run_container("-l app=web")
        address = self.lab.must(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {bad}")
        fetch = f"trirun --label app=bad -- curl -sS --max-time 2 http://{address}"
        self.lab.await_state(bad, "enforced")
        waiting.until(
            lambda: self.lab.sh(fetch).stdout.strip() == "hello from nginx",
            "a workload with the same labels is allowed",
            20,
        )
        pid = self.lab.must(f"docker inspect -f '{{{{.State.Pid}}}}' {bad}")
        owner = self.lab.popen(
            ["nsenter", "-t", pid, "-n", "nft", "-i"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.addCleanup(kill_quietly, owner)
        owner.stdin.write(
            "add table inet trireme; delete table inet trireme; add table inet trireme { flags owner; }\n"
        )
        owner.stdin.flush()
        waiting.until(
            lambda: "cannot be enforced" in self.lab.workload_of(bad)["reason"],
            "it is quarantined, with a reason",
            20,
        )
        self.assertEqual(self.lab.workload_of(bad)["state"], "quarantined")
        for when in ("while it runs", "after a restart"):
            with self.subTest(when):
                self.assertEqual(self.lab.sh(fetch).stdout, "")
                self.assertEqual(self.lab.sh(f"curl -sS --max-time 2 http://{address}").stdout, "")
                self.addCleanup(self.lab.policy, "")
                self.lab.policy(
                    '[[allow]]\nfrom = "app=friend"\nto = "app=web"\n'
                )  # returns only when the policy is in force
                self.lab.await_served(7001, "app=friend")
                self.lab.policy("")
                self.assertEqual(self.lab.ask(7001, "app=friend"), "")
                self.assertEqual(self.lab.ask(7001), "")
            self.lab.must("systemctl restart trireme", 60)
            self.lab.await_state(good, "enforced")
            self.lab.await_state(bad, "quarantined")
        owner.stdin.close()
        owner.wait(10)
        self.lab.await_state(bad, "enforced")
        waiting.until(
            lambda: self.lab.sh(fetch).stdout.strip() == "hello from nginx",
            "a workload with the same labels is allowed",
            20,
        )

    def test_labels_that_no_token_has_room_for_count_on_this_host_alone(self):
        """Compose and Traefik set many labels. Flows that need no token are allowed, other hosts
        refuse the rest, and `trirectl workloads` warns."""
        many = " ".join(f"-l key{i}={'v' * 60}" for i in range(20))
        server = self.run_container(f"-l app=web {many}", SERVE.format(port=7015))
        self.lab.await_state(server, "enforced")
        self.assertRegex(
            json.dumps(self.lab.workload_of(server)["warnings"]),
            r"LOCAL ONLY: remote hosts refuse it: its labels take 1\d{3} bytes",
        )
        self.assertIn("LOCAL ONLY", self.lab.must("trirectl workloads").replace("\n", " "))
        fetch = FETCH.format(port=7015)
        same = f"docker run --rm --net=host -l app=web {many} busybox {fetch}"
        self.assertEqual(self.lab.must(same), "served")
        self.assertEqual(self.lab.ask(7015, "app=web"), "")
        # Between networks of this host no token is needed.
        other = self.lab.must(f"docker run -d -l app=web {many} nginx")
        self.lab.await_state(other, "enforced")
        address = self.lab.must(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {other}")
        fetch = f"curlimages/curl curl -sS --max-time 5 http://{address}"
        same = f"docker run --rm --net=host -l app=web {many} {fetch}"
        self.assertIn("nginx", self.lab.must(same))
        fewer = f"docker run --rm --net=host -l app=web {fetch}"
        self.assertEqual(self.lab.sh(fewer).stdout, "")

    def test_what_leaves_its_network_stays_enforced_there(self):
        """Pid 1 enters a new network namespace after it has started a server. The server remains
        enforced, however often the container is inspected again."""
        serve = SERVE.format(port=7013)
        leave = f"sh -c '{serve} & exec busybox unshare -U -n sleep 600'"
        options = "--security-opt seccomp=unconfined -l app=web"
        host = self.run_container(options, leave)
        bridge = self.lab.must(f"docker run -d {options} busybox {leave}")
        address = self.lab.must(f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {bridge}")
        for container in (host, bridge):
            pid = self.lab.must(f"docker inspect -f '{{{{.State.Pid}}}}' {container}")
            waiting.until(
                lambda: self.lab.must(f"cat /proc/{pid}/comm") == "sleep", "pid 1 has left", 20
            )
            self.lab.await_state(container, "enforced")
        fetches = [
            f"curl -sS --max-time 3 http://{to}:7013/served" for to in ("127.0.0.1", address)
        ]

        def assert_enforced(when):
            for container, fetch in zip((host, bridge), fetches):
                with self.subTest(when, container=container):
                    self.lab.await_state(container, "enforced")
                    waiting.until(
                        lambda: self.lab.sh(f"trirun --label app=web -- {fetch}").stdout.strip()
                        == "served",
                        "a workload with the same labels is allowed",
                        20,
                    )
                    self.assertEqual(self.lab.sh(fetch).stdout, "")
                    self.assertEqual(self.lab.sh(f"trirun --label app=other -- {fetch}").stdout, "")

        assert_enforced("from the start")
        identity = self.lab.must("cat /etc/trireme/identity.toml")
        self.lab.write("etc/trireme/identity.toml", identity + "\n# saved\n")
        self.lab.must("trirectl reload")
        assert_enforced("after a save")
        self.assertIn("has left the network", json.dumps(self.lab.workload_of(host)["warnings"]))
        self.lab.must("systemctl restart trireme", 60)
        assert_enforced("after a restart")
        self.lab.must("systemctl stop trireme && trirectl flush")
        self.lab.start_trireme()
        assert_enforced("after a start that knows of nothing")
        # A container that joins it now joins the namespace that pid 1 created.
        joined = self.lab.must(
            f"docker run -d --net=container:{bridge} -l app=web busybox sleep 600"
        )
        self.lab.await_state(joined, "enforced")

    def test_tokens_are_expected_where_docker_declares_networks(self):
        """They do not depend on the addresses that a container assigns itself."""

        def speakers():
            return self.lab.must("nft list set inet trireme speakers4")

        self.addCleanup(self.lab.sh, "docker network rm late")
        bridged = self.lab.must("docker run -d --cap-add NET_ADMIN -l app=web busybox sleep 600")
        self.lab.await_state(bridged, "enforced")
        waiting.until(lambda: "172.17.0.0/16" in speakers(), "the bridge's network is known")
        self.lab.must(f"docker exec {bridged} ip addr add 1.1.1.1/1 dev eth0")
        self.lab.must("docker network create --subnet 10.99.0.0/24 late")
        late = self.lab.must("docker run -d --net=late -l app=web nginx")
        waiting.until(lambda: "10.99.0.0/24" in speakers(), "the new network is known", 20)
        self.lab.must("systemctl restart trireme", 60)
        for container in (bridged, late):
            self.lab.await_state(container, "enforced")
        self.assertIn("10.99.0.0/24", speakers(), "also before Docker has answered")
        self.assertNotIn("0.0.0.0/1", speakers())
        address = self.lab.must(
            f"docker inspect -f '{{{{.NetworkSettings.Networks.late.IPAddress}}}}' {late}"
        )
        fetch = f"curl -sS --max-time 5 http://{address}"
        self.assertEqual(self.lab.must(f"trirun --label app=web -- {fetch}"), "hello from nginx")
        self.assertEqual(self.lab.sh(fetch).stdout, "")
        self.lab.must(f"docker rm -f {late}")
        waiting.until(lambda: "10.99.0.0/24" not in speakers(), "the network has no containers")

    def test_docker_proxy_is_the_host(self):
        """A host-network workload and an unlabeled process reach a published port through
        docker-proxy only if a rule names @host."""
        world = '[[allow]]\nfrom = "@world"\nto = "*"\nports = ["tcp/80"]\n'
        self.addCleanup(self.lab.policy, "")
        self.lab.policy(world)
        self.lab.must("docker run -d -p 127.0.0.1:7011:80 nginx")
        self.assertEqual(
            self.lab.must("curl -sS --retry 9 --retry-connrefused http://127.0.0.1:7011"),
            "hello from nginx",
        )
        container = self.run_container("-l app=web")
        self.lab.await_state(container, "enforced")
        fetch = f"docker exec {container} wget -qO- http://127.0.0.1:7011"
        self.assertEqual(self.lab.sh(fetch).stdout, "")
        self.lab.policy(world + '[[allow]]\nfrom = "app=web"\nto = ["@host", "@world"]\n')
        self.assertEqual(self.lab.sh(fetch).stdout.strip(), "hello from nginx")

    def test_a_slice_that_was_restarted_while_the_daemon_was_dead(self):
        """The restarted slice is a new cgroup. The daemon finds it when it is back; containers that
        start in it are denied until they are known."""
        self.lab.must("systemctl stop trireme")
        try:
            slice_path = "/sys/fs/cgroup/trireme.slice/trireme-docker.slice"
            before = self.lab.must(f"stat -c %i {slice_path}")
            self.lab.must(
                "mkdir -p /run/systemd/system/trireme-docker.slice.d && printf '[Unit]\\nRefuseManualStop=no\\n' "
                ">/run/systemd/system/trireme-docker.slice.d/test.conf && systemctl daemon-reload && "
                "systemctl stop trireme-docker.slice && systemctl start trireme-docker.slice"
            )
            self.assertNotEqual(self.lab.must(f"stat -c %i {slice_path}"), before)
        finally:
            self.lab.start_trireme()
        container = self.run_container(f"-l app=web {STRICT}")
        self.lab.await_state(container, "enforced")
        self.assert_held(7001)
        unknown = (
            "mkdir -p /sys/fs/cgroup/trireme.slice/trireme-docker.slice/x.scope && "
            "echo $$ >/sys/fs/cgroup/trireme.slice/trireme-docker.slice/x.scope/cgroup.procs && "
        )
        self.lab.must("busybox httpd -p 7012 -h /srv")
        self.lab.await_served(7012)
        self.assertEqual(
            self.lab.sh(unknown + "curl -s --max-time 1 http://127.0.0.1:7012/served").stdout, ""
        )

    def test_capabilities_are_warned_of(self):
        container = self.run_container("-l app=web --cap-add NET_ADMIN")
        self.lab.await_state(container, "enforced")
        self.assertIn("CAP_NET_ADMIN", json.dumps(self.lab.workload_of(container)["warnings"]))


if __name__ == "__main__":
    unittest.main()
