"""Local traffic is judged at the socket that gets it, by what the sender's socket was stamped with:
what rules of nf_tables cannot see, or what rules of others change, lets nobody in and keeps nobody
out."""

import json
import os
import signal
import subprocess

from tests.system import waiting
from tests.system.host import TRIRECTL, TRIREMED, TRIRUN, HostCase

# Keeps a listening socket, its port on stdout, in a second process that outlives the first one.
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

# Two listeners at one port, in two workloads; a classic BPF program sends a SYN to either at random.
GROUP = """
import ctypes, socket, struct, sys
SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF = 15, 51
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(64)
if sys.argv[2] == "choose":
    code = struct.pack("=HBBI", 0x20, 0, 0, 0xfffff038)  # a random number
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
    if sys.stdin in ready:
        break
    listener.accept()[0].close()
    taken += 1
print(taken, flush=True)
"""

# Takes every program off a cgroup, as another program could.
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
        # Its heir goes elsewhere, and it ends: the cgroup goes, the sockets stay.
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
            if hook == "input":  # after the rules, which refuse it themselves elsewhere
                self.assertGreater(self.refusals()["unstamped"], before)
            self.host.must(["nft", "delete", "table", "inet", "others"])
            self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))

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
        waiting.until(lambda: repairs() > before, "the gate is there again")
        self.assert_refused(self.plain.exchange("tcp", "127.0.0.1", self.port))
        self.assert_allowed(self.same.exchange("tcp", "127.0.0.1", self.port))
        self.assertIn(
            'trireme_self_check_repairs_total{what="gate"} ',
            self.host.must([TRIRECTL, "metrics"]),
        )
