# SPDX-License-Identifier: Apache-2.0
"""Random changes of policy and identity on a booted host with 50 open connections between units,
containers, commands and unlabeled processes. `trirectl policy diff` counts the connections that
each change will end, then the change is applied: exactly those must end, and all others must still
carry data.

TRIREME_SEED=N repeats the run that printed N.
"""

import collections
import json
import os
import random
import subprocess
import time
import unittest

from tests.system import waiting
from tests.system.expected import SETS, Policy
from tests.system.host import LONG, kill_quietly
from tests.system.lab import LabCase

CHANGES = 200 if LONG else 8
CONNECTIONS = 50
PORTS = range(7100, 7112)
NEAR = ["127.0.0.2/32"]
# The lab's own Python, in a container.
PYTHON = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /opt/peers:/opt/peers"

# Echoes at its port. On an order over a Unix socket it opens connections that stay open ("open"),
# says which of them TCP still has ("alive"), sends over them ("talk"), or closes them ("close").
PEER = """
import json, os, socket, sys, threading

name, port = sys.argv[1], int(sys.argv[2])
opened = {}

def echo(connection):
    with connection:
        try:
            while data := connection.recv(64):
                connection.sendall(data)
        except OSError:
            pass

def serve(listening):
    while True:
        threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()

def talk(key):
    try:
        opened[key].settimeout(2)
        opened[key].sendall(b'question')
        return opened[key].recv(64) == b'question'
    except OSError:
        return False

def connect(key, to):
    opened[key] = socket.socket()
    opened[key].settimeout(1)
    try:
        opened[key].connect(('127.0.0.1', to))
        if talk(key):
            return True
    except OSError:
        pass
    opened.pop(key).close()
    return False

def is_alive(key):
    try:
        opened[key].settimeout(0)
        return opened[key].recv(1, socket.MSG_PEEK) != b''
    except BlockingIOError:
        return True
    except OSError:
        return False

def answer(order, arguments):
    if order == 'open':
        return [connect(*each) for each in arguments]
    if order == 'cgroup':
        return open('/proc/self/cgroup').read().strip().split('0::')[1]
    if order == 'close':
        return [opened.pop(key).close() for key in arguments]
    return [dict(alive=is_alive, talk=talk)[order](key) for key in arguments]

listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(('127.0.0.1', port))
listening.listen(64)
threading.Thread(target=serve, args=(listening,), daemon=True).start()
place = '/opt/peers/' + name + '.sock'
orders = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
orders.bind(place + '.new')
orders.listen(4)
os.rename(place + '.new', place)  # who finds it can connect
while True:
    with orders.accept()[0] as each:
        file = each.makefile('rw')
        file.write(json.dumps(answer(*json.loads(file.readline()))) + chr(10))
        file.flush()
"""
# Relays between this test and the peers: each line is {name: [order, arguments]}.
ASKER = """
import concurrent.futures, json, socket, sys

def order(name, asked):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect('/opt/peers/' + name + '.sock')
        file = s.makefile('rw')
        file.write(json.dumps(asked) + chr(10))
        file.flush()
        return json.loads(file.readline())

with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for line in sys.stdin:
        answers = {n: pool.submit(order, n, a) for n, a in json.loads(line).items()}
        print(json.dumps({n: f.result() for n, f in answers.items()}), flush=True)
"""


def seed():
    """A short run repeats cases that are known; a long run looks for others."""
    given = os.environ.get("TRIREME_SEED", "" if LONG else "469160")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


def table(labels):
    return "{ " + ", ".join(f'{key} = "{value}"' for key, value in labels.items()) + " }"


class Peer:
    def __init__(self, kind, name, port):
        self.kind, self.name, self.port = kind, name, port
        self.process = None
        self.ident = ""  # how `policy diff` names it; unlabeled processes outside units: "@host"


class DiffProperty(LabCase):
    FILES = (
        ("opt/peers/peer.py", PEER),
        ("opt/peers/asker.py", ASKER),
        (
            "etc/systemd/system/peer@.service",
            "[Service]\nEnvironmentFile=/opt/peers/%i.env\n"
            "ExecStart=/usr/bin/python3 /opt/peers/peer.py %i $PORT\n",
        ),
    )

    def setUp(self):
        super().setUp()
        self.number = seed()
        self.random = random.Random(self.number)
        self.story, self.peers = [], []
        self.connections = {}  # key: (client, server)
        self.count = 0
        self.ended = collections.Counter()
        self.asker = self.lab.popen(
            ["/usr/bin/python3", "/opt/peers/asker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(kill_quietly, self.asker)
        self.addCleanup(self.end_all)
        for index, kind in enumerate(
            ["unit"] * 4 + ["container"] * 4 + ["command"] * 2 + ["plain"] * 2
        ):
            self.begin(Peer(kind, f"{kind[0]}{index}", PORTS[index]))

    def end_all(self):
        for peer in self.peers:
            if peer.process is not None:
                kill_quietly(peer.process)
        self.lab.sh("systemctl stop 'peer@*'; rm -f /etc/trireme/identity.toml")
        self.lab.policy("")

    def begin(self, peer):
        command = f"/usr/bin/python3 /opt/peers/peer.py {peer.name} {peer.port}"
        if peer.kind == "container":
            labels = self.random.choice([*SETS, {}])
            options = " ".join(f"-l {key}={value}" for key, value in labels.items())
            self.lab.must(
                f"docker run -d --name {peer.name} --net=host {options} {PYTHON} busybox {command}"
            )
            self.story.append(f"container {peer.name} with {labels} at {peer.port}")
        elif peer.kind == "unit":
            self.lab.write(f"/opt/peers/{peer.name}.env", f"PORT={peer.port}\n")
            self.lab.must(f"systemctl start peer@{peer.name}")
        else:
            labels = self.random.choice(SETS)
            wrapper = [w for k, v in labels.items() for w in ("--label", f"{k}={v}")]
            argv = ["trirun", *wrapper, "--"] if peer.kind == "command" else []
            peer.process = self.lab.popen([*argv, *command.split()], stdin=subprocess.DEVNULL)
            self.story.append(f"{peer.kind} {peer.name} at {peer.port}, {labels} if a command")
        self.peers.append(peer)
        place = f"{self.lab.root}/opt/peers/{peer.name}.sock"
        waiting.until(lambda: os.path.exists(place), f"{peer.name} is ready", 20)
        cgroup = self.order({peer.name: ["cgroup", []]})[peer.name]
        peer.ident = {
            "unit": f"peer@{peer.name}.service",
            "container": peer.name,
            "command": cgroup.rsplit("/", 1)[-1],
            "plain": "@host",
        }[peer.kind]

    def order(self, orders):
        self.asker.stdin.write(json.dumps(orders) + "\n")
        self.asker.stdin.flush()
        return json.loads(self.asker.stdout.readline())

    # --- connections ---

    def of_all(self, order):
        """The answer to an order for each connection, by key."""
        keys = collections.defaultdict(list)
        for key, (client, _) in self.connections.items():
            keys[client.name].append(key)
        answers = self.order({name: [order, mine] for name, mine in keys.items()})
        return {key: ok for name in keys for key, ok in zip(keys[name], answers[name])}

    def dead(self):
        return {key for key, alive in self.of_all("alive").items() if not alive}

    def fill(self):
        """Opens connections between random peers, up to the number wanted."""
        for _ in range(6):
            wanted = collections.defaultdict(list)
            plan = {}
            for _ in range(CONNECTIONS - len(self.connections)):
                client, server = self.random.sample(self.peers, 2)
                self.count += 1
                key = f"k{self.count}"
                wanted[client.name].append([key, server.port])
                plan[key] = (client, server)
            if not plan:
                return
            answers = self.order({name: ["open", mine] for name, mine in wanted.items()})
            for name, mine in wanted.items():
                for (key, _), ok in zip(mine, answers[name]):
                    if ok:
                        self.connections[key] = plan[key]

    # --- changes ---

    def random_policy(self):
        text = Policy(self.random, NEAR, list(PORTS)).text()
        audit = self.random.random() < 0.3
        return text.replace("[defaults]\n", '[defaults]\nmode = "audit"\n') if audit else text

    def random_identity(self):
        parts = []
        if self.random.random() < 0.4:
            zone = self.random.choice(({"zone": "eu"}, {"env": "x"}, {"app": "b"}))
            parts.append(f"[host]\nlabels = {table(zone)}\n")
        containers = self.random.choice(("all", "all", "labeled", "host-network"))
        parts.append(f'[docker]\ncontainers = "{containers}"\n')
        if self.random.random() < 0.4:
            parts.append(f"labels = {self.random.choice((['app'], ['env']))}\n".replace("'", '"'))
        for peer in self.peers:
            if peer.kind == "unit" and self.random.random() < 0.6:
                labels = self.random.choice(SETS)
                parts.append(f'[[unit]]\nname = "{peer.ident}"\nlabels = {table(labels)}\n')
        return "".join(parts)

    def said(self, end):
        """The peer that an end of a cut is."""
        name = end.get("workload") or end.get("cgroup", "").rsplit("/", 1)[-1]
        for peer in self.peers:
            if peer.kind == "container" and name.startswith("docker-"):
                if name == f"docker-{self.ids[peer.name]}.scope":
                    return peer.ident
            elif name == peer.ident:
                return peer.ident
        return name or "@host"

    def are_in_force(self, changes):
        """Whether the workloads are those that `policy diff` promised."""
        here = {each["name"]: each for each in self.lab.workloads()}
        for change in changes:
            found = here.get(change["name"], {"state": "unenforced"})
            if change["change"] in ("ends", "quarantined"):
                state = {"ends": "unenforced", "quarantined": "quarantined"}[change["change"]]
                if found["state"] != state:
                    return False
            elif (found["state"], found.get("labels")) != ("enforced", change["after"]["labels"]):
                return False
        return True

    def change(self, number):
        policy = self.policy if self.random.random() < 0.3 else self.random_policy()
        identity = self.identity if self.random.random() < 0.3 else self.random_identity()
        self.story.append(f"change {number}:\n{policy}\n--- identity\n{identity}")
        self.lab.write("srv/next/policy.toml", policy)
        self.lab.write("srv/next/identity.toml", identity)
        self.assertEqual(self.dead(), set(), "nothing ends before a change")
        diff = self.lab.sh("trirectl policy diff /srv/next --json")
        self.assertIn(diff.returncode, (0, 1), diff.stderr)
        found = json.loads(diff.stdout)
        self.assertEqual(found["notes"], [])
        expected = collections.Counter()
        ours = {peer.port for peer in self.peers}
        for cut in found["cuts"]:
            port = int(cut["port"].split("/")[1])
            if cut["port"].startswith("tcp/") and port in ours:
                expected[(self.said(cut["from"]), port)] += cut["count"]
        self.apply(policy, identity)
        waiting.until(
            lambda: self.are_in_force(found["identity"]),
            f"the workloads are as promised: {[each['text'] for each in found['identity']]}",
            20,
            0.05,
        )

        def ended():
            keys = self.dead()
            kinds = (
                (self.connections[key][0].ident, self.connections[key][1].port) for key in keys
            )
            return keys, collections.Counter(kinds)

        waiting.until(lambda: not expected - ended()[1], f"all of them end: {found['cuts']}")
        waiting.stays(  # flows are checked twice, 0.1 s apart
            lambda: not ended()[1] - expected, f"only these end: {found['cuts']}", 0.2
        )
        keys, kinds = ended()
        self.assertEqual(
            (expected - kinds, kinds - expected),
            (collections.Counter(), collections.Counter()),
            f"only said on the left, only ended on the right; {found['cuts']}",
        )
        self.assertEqual(found["live_flows_cut"], sum(cut["count"] for cut in found["cuts"]))
        self.ended["ended"] += len(keys)
        self.ended["went on"] += len(self.connections) - len(keys)
        self.forget(keys)
        silent = {key for key, ok in self.of_all("talk").items() if not ok}
        self.assertEqual(
            [(self.connections[key][0].ident, self.connections[key][1].ident) for key in silent],
            [],
            "these did not end, and carry no data",
        )
        self.fill()

    def forget(self, keys):
        closed = collections.defaultdict(list)
        for key in keys:
            closed[self.connections.pop(key)[0].name].append(key)
        if closed:
            self.order({name: ["close", mine] for name, mine in closed.items()})

    def apply(self, policy, identity):
        self.policy, self.identity = policy, identity
        self.lab.write("etc/trireme/identity.toml", identity)
        self.lab.policy(policy)

    def test_what_diff_says_is_what_ends(self):
        print(f"TRIREME_SEED={self.number}", flush=True)
        began = time.monotonic()
        self.ids = {
            peer.name: self.lab.must(f"docker inspect -f '{{{{.Id}}}}' {peer.name}")
            for peer in self.peers
            if peer.kind == "container"
        }
        self.apply('[defaults]\nmode = "audit"\n', '[docker]\ncontainers = "all"\n')
        try:
            self.fill()
            self.assertEqual(len(self.connections), CONNECTIONS)
            for number in range(CHANGES):
                self.change(number)
        except BaseException:
            print("\n".join(self.story[:12] + self.story[12:][-3:]), flush=True)
            print(f"TRIREME_SEED={self.number}", flush=True)
            raise
        print(
            f"{CHANGES} changes from seed {self.number} in {time.monotonic() - began:.0f} s: "
            f"{dict(self.ended)}",
            flush=True,
        )
        for outcome in ("ended", "went on"):
            self.assertGreater(self.ended[outcome], 0, outcome)


if __name__ == "__main__":
    unittest.main()
