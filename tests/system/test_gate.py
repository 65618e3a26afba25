# SPDX-License-Identifier: Apache-2.0
"""The gate decides on local traffic at the receiving socket, by the stamp of the sender's socket.
So neither traffic that nf_tables rules cannot see, nor foreign rules that change packets, make
policy allow or deny anything else."""

import json
import os
import signal
import subprocess

from tests.system import waiting
from tests.system.host import TRIRECTL, TRIREMED, TRIRUN, Host, HostCase

# Keeps a listening socket open in a second process that outlives the first one. Prints its port.
HEIR = """
import os, signal, socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
asking = socket.socket()
if os.fork() == 0:
    os.setsid()
    print(os.getpid(), listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        asking.settimeout(0.5)
        try:
            asking.connect(("127.0.0.1", int(line)))
            print("ok", flush=True)
        except OSError as error:
            print(type(error).__name__, flush=True)
    os._exit(0)
signal.pause()
"""

# Two listeners at one port, in two workloads. A classic BPF program selects one for each SYN at
# random. Each counts what it accepts until stdin has a line and no connection waits.
GROUP = """
import ctypes, socket, struct, sys
SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF = 15, 51
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
listener.bind((sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1", int(sys.argv[1])))
listener.listen(64)
if sys.argv[2] == "choose":
    code = struct.pack("=HBBI", 0x20, 0, 0, 0xfffff038)  # loads a random number
    code += struct.pack("=HBBI", 0x94, 0, 0, 2) + struct.pack("=HBBI", 0x16, 0, 0, 0)
    kept = ctypes.create_string_buffer(code)
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF,
                        struct.pack("HxxxxxxP", 3, ctypes.addressof(kept)))
print(listener.getsockname()[1], flush=True)
taken = 0
listener.settimeout(0.05)
import select
while True:
    ready, _, _ = select.select([sys.stdin, listener], [], [])
    if listener not in ready:
        break
    listener.accept()[0].close()
    taken += 1
print(taken, flush=True)
"""

# Detaches all programs from a cgroup, as another program could.
DETACH = """
import ctypes, os, platform, struct, sys
NUMBER = {"x86_64": 321, "aarch64": 280}[platform.machine()]
QUERY, DETACH, BY_ID = 16, 9, 13
libc = ctypes.CDLL(None, use_errno=True)
def bpf(command, fields):
    attributes = ctypes.create_string_buffer(fields.ljust(128, b"\\0"), 128)
    done = libc.syscall(NUMBER, command, attributes, 128)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done, attributes.raw
top = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
for direction in (0, 1):
    ids = (ctypes.c_uint32 * 64)()
    fields = struct.pack("=IIIIQI", top, direction, 0, 0, ctypes.addressof(ids), 64)
    (found,) = struct.unpack_from("=I", bpf(QUERY, fields)[1], 24)
    for number in ids[:found]:
        program, _ = bpf(BY_ID, struct.pack("=I", number))
        bpf(DETACH, struct.pack("=III", top, program, direction))
"""

QOS = """
table inet others {
  chain out { type filter hook output priority %d; meta priority set 0x10010; }
  chain forward { type filter hook forward priority %d; meta priority set 0x10010; }
  chain post { type filter hook postrouting priority %d; meta priority set 0x10010; }
}
"""


class Gate(HostCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.host.run, ["nft", "delete", "table", "inet", "others"])
        self.web = self.host.labelled("app=web")
        self.same = self.host.labelled("app=web")
        self.other = self.host.labelled("app=db")
        self.plain = self.host.plain()
        self.port = self.web.serve("tcp", "127.0.0.1")

    def script(self, labels, text, *arguments):
        wrapper = [TRIRUN, "--label", labels, "--"] if labels else []
        process = self.host.popen(
            [*wrapper, "python3", "-c", text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.reap, process)
        return process

    @staticmethod
    def reap(process):
        process.kill()
        process.communicate()

    def refusals(self):
        return json.loads(self.host.must([TRIRECTL, "status", "--json"]))["gate"]["refused"]

    def test_a_socket_that_outlives_its_workload_is_nobodys(self):
        self.host.policy(
            '[[allow]]\nfrom = "@host"\nto = "app=heir"\n'
            '[[allow]]\nfrom = "app=web"\nto = "app=heir"\n'
        )
        self.addCleanup(self.host.policy, "")
        process = self.script("app=heir", HEIR)
        heir, port = process.stdout.readline().split()
        self.assert_allowed(self.plain.open("before", "tcp", "127.0.0.1"))
        self.assert_allowed(self.plain.connect("before", "127.0.0.1", int(port)))
        (workload,) = [w for w in self.host.workloads() if w["labels"] == {"app": "heir"}]
        # The heir moves to another cgroup, and the workload ends: its cgroup is removed, its
        # sockets stay.
        with open(self.host.cgroups + "/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write(heir)
        self.addCleanup(os.kill, int(heir), signal.SIGKILL)
        process.kill()
        waiting.until(
            lambda: not os.path.exists(self.host.cgroups + workload["cgroup"]), "its cgroup is gone"
        )
        waiting.until(
            lambda: workload["name"] not in [w["name"] for w in self.host.workloads()],
            "the workload has ended",
        )
        for who in (self.plain, self.web, self.other):
            self.assert_allowed(who.open("after", "tcp", "127.0.0.1"))
            self.assertNotEqual(who.connect("after", "127.0.0.1", int(port), timeout=0.5), "ok")
        open_to_all = self.plain.serve("tcp", "127.0.0.1")
        process.stdin.write(f"{open_to_all}\n")
        process.stdin.flush()
        self.assertNotEqual(process.stdout.readline(), "ok\n", "as @host it would reach @host")

    def test_a_group_of_listeners_gives_nobody_anothers_connections(self):
        first = self.script("app=web", GROUP, "0", "choose")
        port = first.stdout.readline().strip()
        second = self.script("app=db", GROUP, port, "join")
        self.assertEqual(second.stdout.readline().strip(), port)
        for i in range(60):
            self.same.open(f"c{i}", "tcp", "127.0.0.1")
            self.same.connect(f"c{i}", "127.0.0.1", int(port), timeout=0.05)
        taken = []
        for process in (first, second):
            process.stdin.write("end\n")
            process.stdin.flush()
            taken.append(int(process.stdout.readline()))
        self.assertGreater(taken[0], 0)
        self.assertEqual(taken[1], 0, "connections of app=web that app=db was given")

    def test_priorities_that_others_set_on_the_way_out_disturb_nobody(self):
        for priority in (-400, -49, 0, 400):
            self.host.nft(QOS % ((priority,) * 3))
            for _ in range(100):
                self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))
            self.assert_refused(self.other.exchange("tcp", "127.0.0.1", self.port))
            self.assert_refused(self.plain.exchange("tcp", "127.0.0.1", self.port))
            self.host.must(["nft", "delete", "table", "inet", "others"])

    def test_priorities_that_others_take_off_let_nobody_in(self):
        for hook in ("prerouting", "input"):
            self.host.nft(
                f"table inet others {{ chain c {{ type filter hook {hook} priority 300; "
                'iif "lo" meta priority set 0x0; }\n}'
            )
            before = self.refusals()["unstamped"]
            for who in (self.plain, self.other, self.same):
                self.assert_allowed(who.open("c", "tcp", "127.0.0.1"))
                outcome = who.connect("c", "127.0.0.1", self.port, timeout=0.5)
                self.assertNotEqual(outcome, "ok", hook)
            waiting.until(self.stamps_are_lost, f"status reports it for {hook}", 1)
            if hook == "input":  # after the rules, which refuse it in the other hooks
                self.assertGreater(self.refusals()["unstamped"], before)
                waiting.until(self.unstamped_flow, "the flow log says why", 2)
            self.host.must(["nft", "delete", "table", "inet", "others"])
            self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))
            waiting.until(lambda: not self.stamps_are_lost(), "status no longer reports it", 1)

    def test_rules_of_one_family_that_take_priorities_off_are_told_of_too(self):
        self.host.nft(
            "table ip6 others { chain c { type filter hook input priority 300; "
            'iif "lo" meta priority set 0x0; }\n}'
        )
        self.addCleanup(self.host.run, ["nft", "delete", "table", "ip6", "others"])
        waiting.until(self.stamps_are_lost, "status reports it", 1)
        (problem,) = self.host.status()["problems"]
        self.assertIn("IPv6", problem)

    def unstamped_flow(self):
        return any(
            flow["verdict"] == "deny"
            and flow.get("destination", {}).get("labels") == {"app": "web"}
            and "sender is not known" in flow["reason"]
            for flow in self.host.flows()
        )

    def stamps_are_lost(self):
        return any("workloads refuse local traffic" in p for p in self.host.status()["problems"])

    def test_conntrack_that_forgets_changes_nothing_for_local_connections(self):
        self.assert_allowed(self.same.open("c", "tcp", "127.0.0.1"))
        self.assert_allowed(self.same.connect("c", "127.0.0.1", self.port))
        self.host.must(["conntrack", "-F"])
        self.assert_allowed(self.same.send_text("c", "still here"))
        self.assertEqual(self.same.receive("c"), {"text": "still here"})

    def test_one_daemon_for_each_tree(self):
        second = self.host.run(
            [
                TRIREMED,
                "--config-dir",
                self.host.config,
                "--runtime-dir",
                self.host.undo.directory + "/second",
                "--state-dir",
                self.host.undo.directory + "/second-state",
                "--cgroup-driver",
                "cgroupfs",
                "--foreground",
            ]
        )
        self.assertNotEqual(second.returncode, 0)
        self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))

    def test_programs_that_others_take_off_are_put_back(self):
        def repairs():
            return self.host.status()["self_check"]["gate_repairs"]

        before = repairs()
        self.assert_refused(self.plain.exchange("tcp", "127.0.0.1", self.port))
        subprocess.run(["python3", "-c", DETACH, self.host.cgroups], check=True)
        waiting.until(lambda: repairs() > before, "the gate works again")
        self.assert_refused(self.plain.exchange("tcp", "127.0.0.1", self.port))
        self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))
        self.assertIn(
            'trireme_self_check_repairs_total{what="gate"} ',
            self.host.must([TRIRECTL, "metrics"]),
        )


class Births(HostCase):
    """Containers that begin while no daemon runs. No Docker reports them here."""

    IDENTITY = '[docker]\nsocket = "/nowhere/docker.sock"\n'
    NONE = '[docker]\ncontainers = "none"\n'

    @classmethod
    def setUpClass(cls):
        cls.host = Host(cls.POLICY, cls.IDENTITY, bpffs=True)
        cls.addClassCleanup(cls.host.close)

    def setUp(self):
        super().setUp()
        self.plain = self.host.plain()

    def make(self, number, parent=""):
        path = f"{self.host.cgroups}{parent}/docker-{number:064x}.scope"
        os.makedirs(path)
        return path

    def enter(self, path):
        return self.host.plain(["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', path])

    def identity(self, text):
        before = self.host.generation()
        self.host.write("identity.toml", text)
        waiting.until(lambda: self.host.generation() > before, "the new identity is in force")

    def assert_quarantined(self, container):
        """Asserts that no traffic passes in or out."""
        for kind in ("tcp", "udp"):
            port = container.serve(kind, "127.0.0.1")
            self.assertNotEqual(self.plain.exchange(kind, "127.0.0.1", port, timeout=0.5), "ok")
            port = self.plain.serve(kind, "127.0.0.1")
            self.assertNotEqual(container.exchange(kind, "127.0.0.1", port, timeout=0.5), "ok")

    def assert_open(self, container):
        for kind in ("tcp", "udp"):
            port = container.serve(kind, "127.0.0.1")
            self.assert_allowed(self.plain.exchange(kind, "127.0.0.1", port))
            port = self.plain.serve(kind, "127.0.0.1")
            self.assert_allowed(container.exchange(kind, "127.0.0.1", port))

    def births(self):
        return self.host.status()["gate"]["births"]["quarantined"]

    def test_container_that_begins_without_a_daemon_is_in_quarantine_until_it_is_known(self):
        self.assertEqual(self.births(), "always")
        self.host.stop(signal.SIGKILL)
        self.addCleanup(self.identity, self.IDENTITY)
        path = self.make(1, "/system.slice")
        container = self.enter(path)
        self.assert_quarantined(container)
        self.host.start()
        self.assert_quarantined(container)
        cgroup = "/system.slice/" + os.path.basename(path)
        (listed,) = json.loads(self.host.must([TRIRECTL, "workloads", "--json"]))
        self.assertEqual((listed["cgroup"], listed["state"]), (cgroup, "quarantined"))
        self.identity(self.NONE)
        self.assertEqual(self.births(), "off")
        self.assert_open(container)
        self.assert_open(self.enter(self.make(2)))

    def test_what_is_no_container_begins_as_ever(self):
        self.host.stop(signal.SIGKILL)
        self.addCleanup(self.host.start)
        for name in ("docker-12.scope", "a.service", "cri-containerd-" + "0" * 64 + ".scope"):
            path = f"{self.host.cgroups}/{name}"
            os.mkdir(path)
            self.assert_open(self.enter(path))

    def test_names_that_are_used_again_are_new_containers(self):
        path = self.make(3)
        self.assert_quarantined(self.enter(path))
        self.identity(self.NONE)
        self.assert_open(self.enter(path))
        self.host.kill_agents()
        os.rmdir(path)
        self.identity(self.IDENTITY)
        self.plain = self.host.plain()
        self.assert_quarantined(self.enter(self.make(3)))

    def test_flush_leaves_nothing_that_would_quarantine_anybody(self):
        self.host.stop()
        self.addCleanup(self.host.start)
        path = self.make(4)
        container = self.enter(path)
        self.assert_quarantined(container)
        self.assertIn("trireme", os.listdir(self.host.bpffs))
        self.host.must([TRIRECTL, "flush"])
        self.assertNotIn("trireme", os.listdir(self.host.bpffs))
        self.assert_open(container)
        self.assert_open(self.enter(self.make(5)))
