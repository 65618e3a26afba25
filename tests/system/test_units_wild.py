# SPDX-License-Identifier: Apache-2.0
"""systemd units as they occur in practice: aliases, templates, network namespaces, sockets that
systemd keeps or opens, names that have no meaning to trireme."""

import re
import time
import unittest

from tests.system import waiting
from tests.system.lab import LabCase

SERVER = "[Service]\n{more}ExecStart=/usr/bin/busybox httpd -f -p {port} -h /srv\n"

# Keeps its listener in systemd's file descriptor store, and gets it back after a restart. Passes
# another listener, or a copy of the first, to the process that connects to /run/heir.sock.
KEEPER = """
import os, socket
given = int(os.environ.get("LISTEN_FDS", "0"))
if given:
    listener = socket.socket(fileno=3)
else:
    listener = socket.create_server(("127.0.0.1", 6201))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(notify, [b"FDSTORE=1\\nFDNAME=web"], [listener.fileno()])
if os.path.exists("/run/heir.sock"):
    wanted = os.path.exists("/run/heir-wants-all")
    stray = listener if wanted else socket.create_server(("127.0.0.1", 6202))
    with socket.socket(socket.AF_UNIX) as heir:
        heir.connect("/run/heir.sock")
        socket.send_fds(heir, [b"x"], [stray.fileno()])
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1")
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nserved\\n")
    connection.close()
"""
HEIR = """
import socket, sys, time
waits = socket.socket(socket.AF_UNIX)
waits.bind("/run/heir.sock")
waits.listen()
got = socket.recv_fds(waits.accept()[0], 1, 1)[1]
open("/run/heir-has-it", "w").close()
time.sleep(1000)
"""
# Keeps a connection to a port open and prints its result.
CLIENT = """
import socket, sys, time
talk = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
open("/run/connected", "w").close()
talk.settimeout(1)
while True:
    try:
        talk.sendall(b"x")
        with open("/run/heard", "a") as heard:
            heard.write(talk.recv(1).decode() or "end")
    except OSError as error:
        open("/run/cut", "w").close()
        if not isinstance(error, TimeoutError):
            break
    time.sleep(0.05)
"""
ECHO = """
import socket
listener = socket.socket(fileno=3)
while True:
    talk = listener.accept()[0]
    while True:
        got = talk.recv(1)
        if not got:
            break
        talk.sendall(got)
"""

IDENTITY = "".join(
    f'[[unit]]\nname = "{name}"\nlabels = {{ app = "{app}" }}\n'
    for name, app in (
        ("mysql.service", "db"),
        ("linked.service", "linked"),
        ("alias@*.service", "instances"),
        ("tpl@.service", "tpl"),
        ("batch-*.service", "batch"),
        ("generated.service", "generated"),
        ("not-here.service", "none"),
        ("none-*-here.service", "none"),
        ("apart.service", "apart"),
        ("blue.service", "blue"),
        ("keeper.service", "keeper"),
        ("by-socket.service", "by-socket"),
        ("each@*.service", "each"),
        ("rooted.service", "rooted"),
        ("user@1777.service", "user"),
    )
)
GENERATOR = """#!/bin/sh
printf '[Service]\\nExecStart=/usr/bin/busybox httpd -f -p 6104 -h /srv\\n' >"$1/generated.service"
"""


def unit(name, text):
    return f"etc/systemd/system/{name}", text


class WildUnits(LabCase):
    DOCKER = False
    FILES = (
        unit("mariadb.service", SERVER.format(port=6101, more="")),
        ("srv/units/linked.service", SERVER.format(port=6102, more="")),
        unit("real@.service", SERVER.format(port="%i", more="")),
        unit("tpl@.service", SERVER.format(port="%i", more="")),
        ("etc/systemd/system-generators/trireme-test", GENERATOR),
        unit("apart.service", SERVER.format(port=6105, more="PrivateNetwork=yes\n")),
        unit(
            "joins.service",
            "[Unit]\nJoinsNamespaceOf=apart.service\nAfter=apart.service\n"
            "[Service]\nPrivateNetwork=yes\nType=oneshot\nRemainAfterExit=yes\n"
            "ExecStart=/bin/sh -c 'curl -s --max-time 2 http://127.0.0.1:6105/served"
            " >/run/joined; true'\n",
        ),
        unit(
            "blue.service",
            SERVER.format(port=6106, more="NetworkNamespacePath=/run/netns/blue\n"),
        ),
        ("srv/keeper.py", KEEPER),
        ("srv/heir.py", HEIR),
        ("srv/client.py", CLIENT),
        ("srv/echo.py", ECHO),
        unit(
            "keeper.service",
            "[Service]\nType=notify\nFileDescriptorStoreMax=4\nRestart=on-failure\n"
            "RestartSec=200ms\n"
            "ExecCondition=/bin/sh -c 'test ! -e /run/fail-once || { rm /run/fail-once; exit 255; }'\n"
            "ExecStart=/usr/bin/python3 /srv/keeper.py\n",
        ),
        unit("by-socket.socket", "[Socket]\nListenStream=127.0.0.1:6203\n"),
        unit("by-socket.service", "[Service]\nExecStart=/usr/bin/python3 /srv/echo.py\n"),
        unit("each.socket", "[Socket]\nListenStream=127.0.0.1:6204\nAccept=yes\n"),
        unit(
            "each@.service",
            "[Service]\nStandardInput=socket\nStandardOutput=socket\n"
            "ExecStart=/bin/sh -c 'read request; printf \"HTTP/1.0 200 OK\\r\\n\\r\\nserved\\n\"'\n",
        ),
        unit("rooted.service", SERVER.format(port=6107, more="RootDirectory=/srv/root\n")),
        ("etc/trireme/identity.toml", IDENTITY),
    )

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.must(
            "cd /etc/systemd/system && ln -s mariadb.service mysql.service"
            " && ln -s real@.service alias@.service && ln -s /srv/units/linked.service ."
            " && chmod +x /etc/systemd/system-generators/trireme-test"
            " && mkdir -p /srv/root/bin && cp /usr/bin/busybox /srv/root/bin/"
            " && ip netns add blue && ip -n blue link set lo up && systemctl daemon-reload"
        )
        waiting.until(
            lambda: "trireme" in cls.lab.sh("systemctl cat mysql.service alias@1.service").stdout,
            "the gates are in place",
        )

    def tearDown(self):
        self.lab.sh(
            "systemctl stop mariadb linked 'real@*' 'tpl@*' 'batch-*' generated apart joins blue"
            " keeper by-socket.socket by-socket each.socket 'each@*' rooted heir client;"
            " systemctl reset-failed; rm -f /run/heir* /run/fail-once /run/connected /run/heard /run/cut"
        )
        self.lab.write("etc/trireme/identity.toml", IDENTITY)
        self.lab.must("trirectl reload")

    def workload(self, name):
        return next((each for each in self.lab.workloads() if each["name"] == name), None)

    def state(self, name):
        return (self.workload(name) or {}).get("state")

    def warnings(self):
        return self.lab.status()["policy"]["warnings"]

    def assert_serves_only(self, port, labels):
        self.lab.await_served(port, labels)
        for others in (None, "app=other"):
            self.assertEqual(self.lab.ask(port, others), "", others)

    def connects(self, port, labels):
        """True if the kernel completes a connection, accepted or not."""
        wrapper = f"trirun --label {labels} -- " if labels else ""
        curl = f"curl -s -o /dev/null --max-time 1 -w '%{{time_connect}}' http://127.0.0.1:{port}/"
        return float(self.lab.sh(wrapper + curl).stdout) > 0

    # --- names ---

    def test_an_alias_is_the_unit(self):
        for name in ("mysql", "mariadb"):
            self.lab.must(f"systemctl start {name}")
            self.assertEqual(self.state("mariadb.service"), "enforced", name)
            self.assert_serves_only(6101, "app=db")
            self.lab.must(f"systemctl stop {name}")

    def test_an_alias_of_a_unit_that_runs_already(self):
        self.lab.write("etc/trireme/identity.toml", "")
        self.lab.must("trirectl reload && systemctl start mariadb")
        self.lab.await_served(6101)
        self.lab.write("etc/trireme/identity.toml", IDENTITY)
        self.lab.must("trirectl reload")
        waiting.until(lambda: self.state("mariadb.service") == "enforced", "it is a workload")
        self.assertEqual(self.lab.ask(6101), "")
        self.lab.must("systemctl restart trireme")
        waiting.until(lambda: self.state("mariadb.service") == "enforced", "it is a workload again")
        self.assertEqual(self.lab.ask(6101), "")

    def test_a_linked_file_an_alias_of_a_template_a_template_and_a_generated_unit(self):
        for unit_name, name, port, labels in (
            ("linked.service", "linked.service", 6102, "app=linked"),
            ("alias@6111.service", "real@6111.service", 6111, "app=instances"),
            ("real@6112.service", "real@6112.service", 6112, "app=instances"),
            ("tpl@6113.service", "tpl@6113.service", 6113, "app=tpl"),
            ("generated.service", "generated.service", 6104, "app=generated"),
        ):
            with self.subTest(unit_name):
                self.lab.must(f"systemctl start {unit_name}")
                self.assertEqual(self.state(name), "enforced")
                self.assert_serves_only(port, labels)

    def test_a_transient_unit_waits_from_its_first_start_on(self):
        self.lab.must("systemd-run -q --unit=batch-1 /usr/bin/busybox httpd -f -p 6103 -h /srv")
        self.assertEqual(self.state("batch-1.service"), "enforced")
        self.assert_serves_only(6103, "app=batch")
        self.assertIn(
            "trireme",
            self.lab.must(
                "systemctl cat batch-2.service 2>&1; "
                "ls -d /etc/systemd/system/batch-.service.d/*"
            ),
        )

    def test_what_means_nothing_here_is_a_warning(self):
        for where in (self.warnings(), self.lab.sh("triremed --check").stderr.splitlines()):
            for name, text in (
                ("not-here.service", "no such unit on this host"),
                ("none-*-here.service", "no unit on this host matches"),
                ("tpl@.service", "is a template"),
                ("rooted.service", "will not start"),
            ):
                self.assertTrue(
                    any(name in line and text in line for line in where), f"{name}: {where}"
                )
            self.assertFalse(any("mysql" in line for line in where), where)
        journal = self.lab.must("journalctl -b -u trireme --no-pager")
        self.assertIn("'not-here.service': no such unit on this host", journal)
        # A policy repository has the units of other hosts.
        self.lab.must("mkdir -p /srv/repository && cp /etc/trireme/*.toml /srv/repository")
        for word in ("check", "lint"):
            self.assertIn("not-here.service", self.lab.sh(f"trirectl policy {word}").stdout)
            elsewhere = self.lab.sh(f"trirectl policy {word} /srv/repository").stdout
            self.assertIn("/srv/repository: ", elsewhere)
            self.assertNotIn("not-here.service", elsewhere)

    def test_a_gate_that_matches_nothing_stays_shut(self):
        self.lab.must("systemctl start mariadb && systemctl stop mariadb")
        gate = self.lab.must("cat /etc/systemd/system/mysql.service.d/50-trireme.conf")
        self.lab.write("etc/systemd/system/stray.service", SERVER.format(port=6108, more=""))
        self.lab.write("etc/systemd/system/stray.service.d/40-copied.conf", gate)
        self.lab.write("etc/systemd/system/stray.service.d/50-trireme.conf", gate)
        self.lab.sh("systemctl daemon-reload")
        waiting.until(
            lambda: "50-trireme"
            not in self.lab.sh("ls /etc/systemd/system/stray.service.d").stdout,
            "the drop-in without an entry is removed",
        )
        self.lab.must("systemctl start stray && systemctl stop stray")
        # A drop-in that the daemon does not remove, because systemd does not answer.
        self.lab.must(
            "mkdir -p /run/systemd/system/stray.service.d"
            " && cp /etc/systemd/system/stray.service.d/40-copied.conf"
            " /run/systemd/system/stray.service.d/50-trireme.conf"
        )
        self.assertNotEqual(self.lab.sh("systemctl start stray").returncode, 0)
        self.assertIn(
            "no [[unit]] entry of identity.toml matches stray.service",
            self.lab.must("journalctl -b -u stray --no-pager"),
        )
        self.lab.must(
            "rm -r /run/systemd/system/stray.service.d /etc/systemd/system/stray.service*"
        )
        self.lab.must("systemctl daemon-reload")

    # --- network namespaces ---

    def test_a_network_namespace_of_its_own(self):
        self.lab.must("systemctl start apart joins")
        workload = self.workload("apart.service")
        self.assertEqual((workload["state"], workload["network"]), ("enforced", "shared"))
        self.assertEqual(self.lab.must("cat /run/joined"), "", "an unlabeled unit that joined it")
        self.lab.must("systemctl restart trireme")
        waiting.until(lambda: self.state("apart.service") == "enforced", "it is enforced again")
        self.lab.must("systemctl restart joins")
        self.assertEqual(self.lab.must("cat /run/joined"), "")

    def blue_link(self):
        self.lab.must(
            "ip link add to-blue type veth peer name eth0 netns blue"
            " && ip addr add 10.99.0.1/24 dev to-blue && ip link set to-blue up"
            " && ip -n blue addr add 10.99.0.2/24 dev eth0 && ip -n blue link set eth0 up"
        )
        self.addCleanup(self.lab.must, "ip link del to-blue")

    def from_host(self, port):
        return self.lab.sh(f"curl -s --max-time 2 http://10.99.0.2:{port}/served").stdout.strip()

    def test_a_network_namespace_with_a_name(self):
        self.blue_link()
        plain = self.lab.popen(
            ["ip", "netns", "exec", "blue", "busybox", "httpd", "-f", "-p", "6110", "-h", "/srv"]
        )
        self.addCleanup(plain.wait)
        self.addCleanup(plain.kill)
        waiting.until(lambda: self.from_host(6110) == "served", "an unlabeled server is there")
        self.lab.must("systemctl start blue")
        self.assertEqual(self.workload("blue.service")["network"], "shared")
        self.assertEqual(self.from_host(6106), "")
        inside = self.lab.sh(
            "ip netns exec blue curl -s --max-time 2 http://127.0.0.1:6106/served"
        ).stdout
        self.assertEqual(inside, "")
        self.assertEqual(
            self.from_host(6110), "served", "others in that namespace are not quarantined"
        )

    def test_trirun_into_another_network_namespace(self):
        def moves():
            return self.lab.status()["self_check"]["network_moves"]

        self.blue_link()
        before = moves()
        self.lab.must(
            "trirun --label app=away --unit away -- "
            "ip netns exec blue sh -c 'busybox httpd -p 6120 -h /srv' "
        )
        waiting.until(lambda: moves() > before, "it is enforced in its namespace")
        waiting.until(
            lambda: ":6120 " in self.lab.must("ip netns exec blue ss -Hltn"), "it listens"
        )
        self.assertEqual(self.state("away.scope"), "enforced")
        self.assertEqual(self.workload("away.scope")["network"], "host", "where it was started")
        self.assertEqual(self.from_host(6120), "")
        self.lab.must("systemctl stop away.scope")

    def test_trirun_partly_in_another_network_namespace(self):
        self.blue_link()
        half = self.lab.popen(
            ["trirun", "--label", "app=half", "--unit", "half", "--", "sh", "-c"]
            + ["ip netns exec blue busybox httpd -f -p 6121 -h /srv & echo $! >/run/half; sleep 99"]
        )
        self.addCleanup(half.wait)
        self.addCleanup(self.lab.sh, "systemctl stop half.scope")
        waiting.until(lambda: self.state("half.scope") == "quarantined", "it is not 'enforced'")
        self.assertIn("network namespace", self.workload("half.scope")["reason"])
        self.assertEqual(self.from_host(6121), "")
        self.lab.must("kill $(cat /run/half)")
        waiting.until(lambda: self.state("half.scope") == "enforced", "all its processes are back")
        self.assertGreater(self.lab.status()["self_check"]["network_moves"], 0)

    def test_one_process_of_many_in_another_network_namespace(self):
        """With more processes than one turn of the self-check inspects, and after the period in
        which starts are checked more often."""
        self.blue_link()
        self.lab.must("mkfifo /run/go")
        crowd = self.lab.popen(
            ["trirun", "--label", "app=crowd", "--unit", "crowd", "--", "sh", "-c"]
            + [
                "for each in $(seq 600); do sleep 999 & done; read go </run/go;"
                " ip netns exec blue sleep 999 & echo $! >/run/last; wait"
            ]
        )
        self.addCleanup(crowd.wait)
        self.addCleanup(self.lab.sh, "systemctl stop crowd.scope; rm -f /run/go /run/last")
        procs = "/sys/fs/cgroup/trireme.slice/crowd.scope/cgroup.procs"
        waiting.until(
            lambda: int(self.lab.sh(f"wc -l <{procs}").stdout or 0) > 600, "they run", seconds=60
        )
        began = self.lab.must("systemctl show -P ActiveEnterTimestampMonotonic crowd.scope")
        waiting.until(
            lambda: time.monotonic() - int(began) / 1e6 > 2, "its start is over for the self-check"
        )
        self.lab.must("echo >/run/go")
        waiting.until(
            lambda: self.state("crowd.scope") == "quarantined", "the last process is found"
        )
        self.lab.must("kill $(cat /run/last)")
        waiting.until(
            lambda: self.state("crowd.scope") == "enforced", "all processes were inspected"
        )

    def test_a_command_that_leaves_its_scope(self):
        self.lab.must("trirun --label app=gone --unit gone -- true; mkdir /sys/fs/cgroup/elsewhere")
        leaves = self.lab.popen(
            ["trirun", "--label", "app=left", "--unit", "left", "--", "sh", "-c"]
            + ["echo $$ >/sys/fs/cgroup/elsewhere/cgroup.procs; exec sleep 999"]
        )
        self.addCleanup(
            waiting.until,
            lambda: self.lab.sh("rmdir /sys/fs/cgroup/elsewhere").returncode == 0,
            "its processes have gone",
        )
        self.addCleanup(leaves.wait)
        self.addCleanup(self.lab.sh, "kill $(cat /sys/fs/cgroup/elsewhere/cgroup.procs)")

        def journal():
            return self.lab.must("journalctl -b -u trireme --no-pager")

        waiting.until(
            lambda: "workload gone.scope has ended: its last process has left" in journal(),
            "its end is reported",
        )
        waiting.until(
            lambda: re.search(
                r"workload left.scope has ended: its process \d+ has moved to cgroup /elsewhere ",
                journal(),
            ),
            "the namespace of its command is reported",
        )

    def test_one_without_a_way_out_is_nothing_to_speak_of(self):
        boxed = self.lab.popen(
            ["trirun", "--label", "app=boxed", "--unit", "boxed", "--", "sh", "-c"]
            + ["unshare -n sh -c 'echo >/run/boxed; sleep 99' & sleep 99"]
        )
        self.addCleanup(boxed.wait)
        self.addCleanup(self.lab.sh, "systemctl stop boxed.scope")
        waiting.until(lambda: self.lab.sh("test -e /run/boxed").returncode == 0, "it has one")
        self.assertEqual(self.state("boxed.scope"), "enforced")

    # --- sockets ---

    def test_a_listener_that_systemd_keeps_over_a_restart(self):
        self.lab.must("systemctl start keeper")
        self.assert_serves_only(6201, "app=keeper")
        for _ in range(3):
            self.lab.must("systemctl restart keeper")
            self.assertEqual(self.state("keeper.service"), "enforced")
            self.assert_serves_only(6201, "app=keeper")
        self.lab.must("systemctl restart trireme")
        self.assert_serves_only(6201, "app=keeper")
        self.lab.must("systemctl restart keeper")
        self.assert_serves_only(6201, "app=keeper")

    def test_a_socket_that_somebody_else_has_is_not_the_next_runs(self):
        self.lab.must("systemd-run -q --unit=heir /usr/bin/python3 /srv/heir.py")
        waiting.until(lambda: self.lab.sh("test -S /run/heir.sock").returncode == 0, "it waits")
        self.lab.must("systemctl start keeper")
        waiting.until(lambda: self.lab.sh("test -e /run/heir-has-it").returncode == 0, "it has one")
        self.assertEqual(self.lab.must("ss -Htln sport = 6202 | wc -l"), "1")
        self.lab.must("rm /run/heir.sock; systemctl restart keeper")
        for labels in (None, "app=keeper", "app=other"):
            self.assertFalse(self.connects(6202, labels), labels)

    def test_a_kept_listener_that_somebody_else_has_too_stays_shut(self):
        self.lab.must(
            "touch /run/heir-wants-all; systemd-run -q --unit=heir /usr/bin/python3 /srv/heir.py"
        )
        waiting.until(lambda: self.lab.sh("test -S /run/heir.sock").returncode == 0, "it waits")
        self.lab.must("systemctl start keeper")
        waiting.until(lambda: self.lab.sh("test -e /run/heir-has-it").returncode == 0, "it has one")
        self.assert_serves_only(6201, "app=keeper")
        self.lab.must("rm /run/heir.sock; systemctl restart keeper")
        self.assertEqual(self.state("keeper.service"), "enforced")
        for labels in (None, "app=keeper", "app=other"):
            self.assertFalse(self.connects(6201, labels), labels)
        self.assertIn(
            "keeper.service: other processes may also hold sockets of an earlier run",
            self.lab.must("journalctl -b -u trireme --no-pager"),
        )
        self.lab.must("systemctl stop heir; systemctl restart keeper")
        self.assert_serves_only(6201, "app=keeper")

    def test_a_kept_listener_outlives_starts_that_fail(self):
        self.lab.must("systemctl start keeper")
        self.assert_serves_only(6201, "app=keeper")
        self.lab.must("touch /run/fail-once; systemctl kill -s KILL keeper")
        waiting.until(lambda: self.lab.sh("test -e /run/fail-once").returncode != 0, "it fails")
        waiting.until(
            lambda: self.lab.sh("systemctl is-active keeper").stdout.strip() == "active",
            "it starts again",
        )
        self.assertEqual(self.state("keeper.service"), "enforced")
        self.assert_serves_only(6201, "app=keeper")

    def test_a_socket_unit_with_its_service(self):
        self.lab.must("systemctl start by-socket.socket")
        self.assertEqual(self.state("by-socket.socket"), "enforced")
        self.lab.must("systemctl start by-socket")
        self.assertEqual(self.state("by-socket.service"), "enforced")
        self.assertTrue(self.connects(6203, "app=by-socket"))
        for labels in (None, "app=other"):
            self.assertFalse(self.connects(6203, labels), labels)

    def test_a_socket_unit_that_becomes_a_workload_judges_its_connections(self):
        self.lab.write("etc/trireme/identity.toml", "")
        self.lab.must("trirectl reload && systemctl start by-socket.socket")
        self.lab.must("systemd-run -q --unit=client /usr/bin/python3 /srv/client.py 6203")
        waiting.until(lambda: "xx" in self.lab.sh("cat /run/heard").stdout, "they talk")
        self.lab.write("etc/trireme/identity.toml", IDENTITY)
        self.lab.must("trirectl reload")
        waiting.until(
            lambda: self.lab.sh("test -e /run/cut").returncode == 0, "they no longer talk"
        )
        # Without a holder again, the socket is no longer quarantined.
        self.lab.write("etc/trireme/identity.toml", "")
        self.lab.must("trirectl reload && systemctl stop by-socket")
        self.lab.must(
            "rm -f /run/heard; systemd-run -q --unit=client2 /usr/bin/python3"
            " /srv/client.py 6203"
        )
        self.addCleanup(self.lab.sh, "systemctl stop client2")
        waiting.until(lambda: "xx" in self.lab.sh("cat /run/heard").stdout, "they talk again")

    def test_a_socket_unit_with_an_instance_for_each_connection(self):
        self.lab.must("systemctl start each.socket")
        self.assertEqual(self.state("each.socket"), "enforced")
        self.assert_serves_only(6204, "app=each")
        self.lab.write(
            "etc/trireme/identity.toml",
            IDENTITY.replace('"each@*.service"', '"each@[0-9]-*.service"'),
        )
        self.lab.must("trirectl reload")
        waiting.until(
            lambda: any("some instances of each@.service" in line for line in self.warnings()),
            "it is a warning",
        )
        self.assertEqual(
            self.state("each.socket"), "enforced", "whichever process accepts the connection"
        )
        self.assertEqual(self.lab.ask(6204), "")

    # --- other cases ---

    def test_a_unit_with_another_root_does_not_start(self):
        self.assertNotEqual(self.lab.sh("systemctl start rooted").returncode, 0)
        self.assertEqual(self.lab.ask(6107), "")

    def test_a_users_manager(self):
        self.lab.must("useradd -u 1777 -m trier && systemctl start user@1777.service")
        self.addCleanup(self.lab.sh, "systemctl stop user@1777.service; userdel -r trier")
        self.assertEqual(self.state("user@1777.service"), "enforced")
        self.lab.must(
            "setpriv --reuid=1777 --regid=1777 --clear-groups env XDG_RUNTIME_DIR=/run/user/1777"
            " systemd-run --user -q busybox httpd -f -p 6301 -h /srv"
        )
        self.assert_serves_only(6301, "app=user")


if __name__ == "__main__":
    unittest.main()
