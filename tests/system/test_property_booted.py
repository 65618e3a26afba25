# SPDX-License-Identifier: Apache-2.0
"""Random sequences on a booted host, with what test_property.py does not cover: containers, units
and commands that start, end and restart; Docker and the daemon restart or are down meanwhile;
policy is reloaded. After each step real packets are sent between all pairs; exactly those must
arrive that the documented policy allows (expected.py).

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
from tests.system.expected import HOST, QUARANTINED, SETS, End, Policy, Workload, text_of_labels
from tests.system.host import LONG, kill_quietly
from tests.system.lab import LabCase

STEPS = 120
MOST = 8
PORTS = range(7100, 7112)
NEAR = ["127.0.0.1/32"]
EPHEMERAL = 40_000  # a port that no rule names
# The lab's own Python, in a container.
PYTHON = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /opt/actors:/opt/actors"

# Answers at its port over TCP and UDP. On an order over a Unix socket it sends requests, and
# reports for each [protocol, port] whether it got an answer. The order "pid" returns its process
# id.
ACTOR = """
import json, os, socket, sys, threading

name, port = sys.argv[1], int(sys.argv[2])
kinds = dict(tcp=socket.SOCK_STREAM, udp=socket.SOCK_DGRAM)

def echo_stream(connection):
    with connection:
        connection.settimeout(5)
        try:
            connection.sendall(connection.recv(16))
        except OSError:
            pass

def serve(kind, listening):
    while True:
        if kind == 'tcp':
            threading.Thread(target=echo_stream, args=(listening.accept()[0],), daemon=True).start()
        else:
            try:
                data, peer = listening.recvfrom(16)
                listening.sendto(data, peer)
            except OSError:
                pass

def ask(kind, to):
    with socket.socket(socket.AF_INET, kinds[kind]) as s:
        s.settimeout(1.0 if kind == 'tcp' else 0.3)
        try:
            s.connect(('127.0.0.1', to))
            s.sendall(b'question')
            return s.recv(16) == b'question'
        except OSError:
            return False

for kind in kinds:
    listening = socket.socket(socket.AF_INET, kinds[kind])
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(('127.0.0.1', port))
    if kind == 'tcp':
        listening.listen(64)
    threading.Thread(target=serve, args=(kind, listening), daemon=True).start()
place = '/opt/actors/' + name + '.sock'
if os.path.exists(place):
    os.unlink(place)
orders = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
orders.bind(place)
orders.listen(4)
while True:
    with orders.accept()[0] as order:
        file = order.makefile('rw')
        asked = json.loads(file.readline())
        answer = os.getpid() if asked == 'pid' else [ask(*each) for each in asked]
        file.write(json.dumps(answer) + chr(10))
        file.flush()
"""
# Relays between this test and the actors: each line {name: [[protocol, port]]} is sent to all of
# them concurrently.
ASKER = """
import concurrent.futures, json, socket, sys

def order(name, asked):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.connect('/opt/actors/' + name + '.sock')
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
    given = os.environ.get("TRIREME_SEED")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


class Actor:
    def __init__(self, kind, name, port, labels):
        self.kind, self.name, self.port, self.labels = kind, name, port, labels
        self.is_quarantined = False  # a container that no daemon has seen yet
        self.process = None

    def who(self, number):
        if self.is_quarantined:
            return QUARANTINED
        labels = tuple(sorted(self.labels.items()))
        return HOST if self.kind == "plain" else Workload(number, labels)

    def text(self):
        return f"{self.kind} {self.name} ({text_of_labels(self.labels.items()) or 'no labels'})"


@unittest.skipUnless(LONG, "long")
class PropertyBooted(LabCase):
    FILES = (
        # Containers continue while their engine is down.
        ("etc/docker/daemon.json", '{"live-restore": true}\n'),
        ("opt/actors/actor.py", ACTOR),
        ("opt/actors/asker.py", ASKER),
        (
            "etc/systemd/system/actor@.service",
            "[Service]\nEnvironmentFile=/opt/actors/%i.env\n"
            "ExecStart=/usr/bin/python3 /opt/actors/actor.py %i $PORT\n",
        ),
    )

    def setUp(self):
        super().setUp()
        self.number = seed()
        self.random = random.Random(self.number)
        self.actors, self.count, self.story = [], 0, []
        self.pairs = collections.Counter()
        self.is_away = False  # the daemon is down, so the previous policy stays in force
        self.asker = self.lab.popen(
            ["/usr/bin/python3", "/opt/actors/asker.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(kill_quietly, self.asker)
        self.addCleanup(self.end_all)
        # One name for each label set, because a unit's name determines its labels.
        units = "".join(
            f'[[unit]]\nname = "actor@u{i}.service"\nlabels = {{ '
            + ", ".join(f'{key} = "{value}"' for key, value in labels.items())
            + " }\n"
            for i, labels in enumerate(SETS)
        )
        self.lab.write("etc/trireme/identity.d/units.toml", units)
        self.new_policy()

    def say(self, text):
        self.story.append(text)

    # --- events ---

    def new_policy(self):
        self.policy = Policy(self.random, NEAR, PORTS)
        self.lab.write("etc/trireme/policy.toml", self.policy.text())
        if self.is_away:
            return False  # comes into force when the daemon is back
        self.lab.must("trirectl reload")
        self.say("a reload")
        return True

    def start(self, kind=None):
        used = {actor.port for actor in self.actors}
        free = [port for port in PORTS if port not in used]
        kind = kind or self.random.choice(("container", "container", "unit", "command", "plain"))
        if len(self.actors) >= MOST or not free:
            return False
        if self.is_away and kind in ("unit", "command"):
            return False  # units do not start then
        labels = {} if kind == "plain" else self.random.choice(SETS)
        name = f"{kind[0]}{self.count}"
        if kind == "unit":
            name = f"u{SETS.index(labels)}"
            if any(actor.name == name for actor in self.actors):
                return False
        self.count += 1
        actor = Actor(kind, name, self.random.choice(free), labels)
        self.begin(actor)
        self.actors.append(actor)
        self.say(f"start of {actor.text()} at {actor.port}")
        return True

    def begin(self, actor):
        place = f"/opt/actors/{actor.name}"
        self.lab.must(f"rm -f {place}.sock")
        command = f"/usr/bin/python3 /opt/actors/actor.py {actor.name} {actor.port}"
        if actor.kind == "container":
            labels = " ".join(f"-l {key}={value}" for key, value in actor.labels.items())
            self.lab.must(
                f"docker run -d --name {actor.name} --net=host {labels} {PYTHON} busybox {command}"
            )
            actor.is_quarantined = self.is_away
        elif actor.kind == "unit":
            self.lab.write(f"{place}.env", f"PORT={actor.port}\n")
            self.lab.must(f"systemctl start actor@{actor.name}")
        else:
            labels = [w for k, v in actor.labels.items() for w in ("--label", f"{k}={v}")]
            wrapper = ["trirun", *labels, "--"] if actor.kind == "command" else []
            actor.process = self.lab.popen([*wrapper, *command.split()], stdin=subprocess.DEVNULL)
        self.await_actor(actor)

    def await_actor(self, actor):
        place = f"{self.lab.root}/opt/actors/{actor.name}.sock"
        waiting.until(lambda: os.path.exists(place), f"{actor.text()} is ready", 20)

    def end(self, actor):
        if actor.kind == "container":
            self.lab.must(f"docker rm -f {actor.name}")
        elif actor.kind == "unit":
            self.lab.must(f"systemctl stop actor@{actor.name}")
        else:
            self.lab.must(f"kill -9 {self.send_orders({actor.name: 'pid'})[actor.name]}")
            actor.process.wait()

    def send_orders(self, orders):
        """The answer of each actor to its order, by name."""
        self.asker.stdin.write(json.dumps(orders) + "\n")
        self.asker.stdin.flush()
        return json.loads(self.asker.stdout.readline())

    def end_one(self):
        if len(self.actors) < 3:
            return False
        actor = self.actors.pop(self.random.randrange(len(self.actors)))
        self.end(actor)
        self.say(f"end of {actor.text()}")
        return True

    def restart_one(self):
        actor = self.random.choice(self.actors)
        if self.is_away and actor.kind in ("unit", "command"):
            return False
        if actor.kind == "container":
            self.lab.must(f"rm -f /opt/actors/{actor.name}.sock; docker restart -t 0 {actor.name}")
            actor.is_quarantined = self.is_away
            self.await_actor(actor)
        elif actor.kind == "unit":
            self.lab.must(
                f"rm -f /opt/actors/{actor.name}.sock; systemctl restart actor@{actor.name}"
            )
            self.await_actor(actor)
        else:
            self.end(actor)
            self.begin(actor)
        self.say(f"restart of {actor.text()}")
        return True

    def restart_docker(self):
        # Its unit allows three starts per minute.
        self.lab.must("systemctl reset-failed docker; systemctl restart docker", 120)
        self.say("restart of Docker")
        return True

    def restart_daemon(self):
        if self.is_away:
            return False
        how = self.random.choice(("systemctl restart trireme", "systemctl kill -s KILL trireme"))
        before = self.lab.must("systemctl show -P MainPID trireme")
        self.lab.must(how)
        waiting.until(
            lambda: self.lab.must("systemctl show -P MainPID trireme") not in (before, "0")
            and self.lab.sh("trirectl status").returncode == 0,
            "the daemon is back",
            20,
        )
        self.say(how)
        return True

    def stop_or_start_daemon(self):
        if self.is_away:
            self.lab.start_trireme()
            for actor in self.actors:
                actor.is_quarantined = False
        else:
            self.lab.must("systemctl stop trireme")
        self.is_away = not self.is_away
        self.say("the daemon ends" if self.is_away else "the daemon is back")
        return True

    def step(self):
        happens = (
            [self.start] * 4
            + [self.end_one, self.restart_one, self.restart_one, self.new_policy]
            + [self.restart_docker, self.restart_daemon, self.stop_or_start_daemon]
        )
        while not self.random.choice(happens)():
            pass

    # --- expected results ---

    def settle(self):
        """Waits until all workloads are enforced."""
        if self.is_away:
            return

        def states():
            details = {each["name"]: each["state"] for each in self.lab.workloads()}
            return [
                details.get(
                    actor.name if actor.kind == "container" else f"actor@{actor.name}.service"
                )
                for actor in self.actors
                if actor.kind in ("container", "unit")
            ]

        waiting.until(lambda: set(states()) <= {"enforced"}, "all are enforced", 20)

    def try_all(self):
        self.settle()
        asked = {
            actor.name: [
                [kind, other.port]
                for other in self.actors
                if other is not actor
                for kind in ("tcp", "udp")
            ]
            for actor in self.actors
        }
        answers = self.send_orders(asked)
        by_port = {actor.port: actor for actor in self.actors}
        ends = {
            actor: End(actor.who(number), "127.0.0.1") for number, actor in enumerate(self.actors)
        }
        policy = self.policy_in_force
        for actor in self.actors:
            for (kind, port), answered in zip(asked[actor.name], answers[actor.name]):
                other = by_port[port]
                expected = policy.allows(ends[actor], ends[other], kind, port)
                self.pairs["arrived" if answered else "refused"] += 1
                # Once an unconnected socket has sent a datagram, an answer included, it receives
                # datagrams from all endpoints that it may send to: threat-model.md, "UDP answers".
                may_ask = policy.allows(ends[other], ends[actor], "udp", EPHEMERAL)
                if answered and not expected and kind == "udp" and may_ask:
                    self.pairs["left open"] += 1
                elif answered != expected:
                    self.fail(
                        f"{kind} from {actor.text()} to {other.text()} at {port}: "
                        f"{'answered' if answered else 'no answer'}, and it should be "
                        f"{'answered' if expected else 'refused'}\n{policy.text()}"
                    )

    def test_every_pair_does_what_policy_says(self):
        number, began = self.number, time.monotonic()
        print(f"TRIREME_SEED={number}", flush=True)
        try:
            for kind in ("container", "unit", "command", "plain"):
                self.start(kind)
            self.policy_in_force = self.policy
            for _ in range(STEPS):
                self.step()
                if not self.is_away:
                    self.policy_in_force = self.policy
                self.try_all()
        except BaseException as error:
            details = "\n".join(f"{i}. {text}" for i, text in enumerate(self.story))
            print(f"{details}\nTRIREME_SEED={number}: {error}", flush=True)
            raise
        tried = sum(self.pairs.values())
        print(
            f"{STEPS} steps from seed {number}, {tried} pairs in "
            f"{time.monotonic() - began:.0f} s: {dict(self.pairs)}",
            flush=True,
        )
        for outcome in ("arrived", "refused"):
            self.assertGreater(self.pairs[outcome], 0, outcome)

    def end_all(self):
        if self.is_away:
            self.lab.start_trireme()
        for actor in self.actors:
            self.end(actor)
        self.lab.must("rm -f /etc/trireme/identity.d/units.toml")
        self.lab.policy("")


if __name__ == "__main__":
    unittest.main()
