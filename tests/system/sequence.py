# SPDX-License-Identifier: Apache-2.0
"""Random events on a host: workloads and unlabeled processes begin, fork, move, restart and end;
sockets are opened, passed, and outlive the process that opened them; policy is reloaded; the daemon
dies and comes back."""

import contextlib
import dataclasses
import os
import random
import signal

from tests.system import waiting
from tests.system.attempts import Attempts
from tests.system.expected import HOST, QUARANTINED, SETS, End, Policy, Workload, text_of_labels
from tests.system.host import LOCAL4, LOCAL6, TRIRUN

MOST_SOCKETS = 16
MOST_PROCESSES = 9
PORTS = list(range(7001, 7017))
ADDRESSES = {4: ("127.0.0.1", "127.0.0.2", LOCAL4), 6: ("::1", LOCAL6)}
EVERYWHERE = "::"
ANY = ("0.0.0.0", "::")  # addresses that clients are bound to
NEAR = [f"{LOCAL4}/32", f"{LOCAL6}/128", "127.0.0.2/32"]
REMEMBERED = 8  # how many ports the gate remembers that an unconnected UDP socket has sent to


class Difference(AssertionError):
    pass


@dataclasses.dataclass(eq=False)
class Place:
    """A cgroup. One below a workload's cgroup, or below one in quarantine, belongs to that."""

    path: str
    who: object = None  # HOST, QUARANTINED, a Workload; None: as the parent
    parent: object = None
    is_gone: bool = False

    def identity(self):
        if self.who is None:
            return self.parent.identity()
        return QUARANTINED if self.is_gone and isinstance(self.who, Workload) else self.who

    def with_parents(self):
        return [self, *(self.parent.with_parents() if self.parent else [])]

    def owner(self):
        """The place with an identity of its own that this place belongs to."""
        return self.parent.owner() if self.who is None else self


@dataclasses.dataclass(eq=False)
class Process:
    attempts: Attempts
    place: Place

    @property
    def name(self):
        return self.attempts.name


@dataclasses.dataclass(eq=False)
class Socket:
    name: str
    kind: str  # "udp", "listener", "client", or "end" of a connection
    place: Place  # of the process that opened it
    holder: Process  # the process that uses it
    address: str = ""  # EVERYWHERE: both families, except for a client
    port: int = 0
    group: str = ""  # SO_REUSEPORT: "join", or "choose" if a program chooses at random
    is_elsewhere: bool = False  # in another network namespace, which has no daemon
    peer: tuple = ()  # peer of a UDP socket; other end of a connection
    # Address of the last peer of a UDP socket that is no longer connected. Linux does not forget it
    # for IPv6, and delivers nothing from other addresses to the socket.
    former: str = ""
    # Ports that the socket has sent to, ordered by the first time. The gate may or may not remember
    # those in `perhaps`. `is_vague`: `perhaps` was not always empty, so the order is uncertain.
    asked: list = dataclasses.field(default_factory=list)
    perhaps: set = dataclasses.field(default_factory=set)
    is_vague: bool = False

    def who(self):
        return self.place.identity()

    def versions(self):
        if self.kind != "client" and self.address == EVERYWHERE:
            return (4, 6)
        return (6,) if ":" in self.address else (4,)

    def has_asked(self, port):
        """Whether the gate remembers that the socket has sent to the port: True, False, or None if
        that is uncertain."""
        if port not in self.asked:
            return False
        is_certain = port not in self.perhaps and (
            not self.is_vague or len(self.asked) <= REMEMBERED
        )
        return True if is_certain else None

    def asks(self, port, certain):
        if certain:
            self.perhaps.discard(port)
        elif port not in self.asked:
            self.perhaps.add(port)
            self.is_vague = True
        if port not in self.asked:
            self.asked.append(port)
        if not self.is_vague:
            del self.asked[:-REMEMBERED]

    def text(self):
        who = self.who()
        if isinstance(who, Workload):
            who = f"{text_of_labels(who.labels)}#{who.number}"
        where = f"[{self.address}]:{self.port}" if self.port else ""
        where += " elsewhere" if self.is_elsewhere else ""
        peer = f" connected to {self.peer}" if self.kind == "udp" and self.peer else ""
        asked = f", remembers {self.asked}" if self.asked else ""
        return (
            f"{self.name} ({self.kind} {where} of {who}, held by {self.holder.name}{peer}{asked})"
        )


class World:
    """`elsewhere`: a network namespace with the same addresses. Subclasses have `link(process)`,
    which opens a connection that stays open."""

    def __init__(self, host, elsewhere, number):
        self.host = host
        self.elsewhere = elsewhere
        self.random = random.Random(number)
        self.story = []
        self.top = Place("", HOST)
        self.slice = Place(
            host.slice, QUARANTINED
        )  # the strict slice: unknown cgroups in it are refused
        self.processes, self.sockets = [], []
        self.sent = set()  # datagrams, by addresses and ports, that conntrack may know
        self.policy = None
        self.saved = None
        self.daemon_runs = True
        self.count = 0  # used in names
        self.witness = self.begin(self.top)
        self.step_forget_flows()
        self.reload()
        for _ in range(3):
            self.step_workload()
        self.step_plain()

    def named(self, what):
        self.count += 1
        return f"{what}{self.count}"

    def say(self, text):
        self.story.append(text)

    def fail(self, text):
        raise Difference(text)

    def path(self, place):
        return self.host.cgroups + place.path

    # --- processes and their cgroups ---

    def begin(self, place, labels=None):
        """Begins a process in `place`, or launches a workload from there."""
        name = self.named("p")
        argv = ["sh", "-c", f'echo $$ >{self.path(place)}/cgroup.procs && exec "$@"', "sh"]
        if labels is not None:
            options = [f"--label={key}={value}" for key, value in labels.items()]
            argv += [TRIRUN, *options, "--"]
        process = Process(Attempts(argv, self.host.popen, name), place)
        self.host.agents.append(process.attempts)
        path = process.attempts.order("cgroup")
        if labels is not None:
            who = Workload(self.count, tuple(sorted(labels.items())))
            process.place = Place(path, who)
        self.processes.append(process)
        self.say(f"{name} begins in {path}" + (f" as {labels}" if labels is not None else ""))
        return process

    def leave(self, place):
        """Removes the cgroup that a process has left, if it is empty."""
        while place and place not in (self.top, self.slice) and not self.is_inhabited(place):
            if isinstance(place.who, Workload):
                if self.daemon_runs:
                    self.await_end(place)
                elif self.random.random() < 0.5:  # as systemd does, even without the daemon
                    os.rmdir(self.path(place))
                    place.is_gone = True
                    self.say(f"{place.path} is removed")
                return
            with contextlib.suppress(FileNotFoundError):  # the daemon may have removed it
                os.rmdir(self.path(place))
            place.is_gone = True
            place = place.parent

    def is_inhabited(self, place):
        return any(place in process.place.with_parents() for process in self.processes)

    def await_end(self, place):
        waiting.until(lambda: not os.path.exists(self.path(place)), f"{place.path} is gone", 60)
        place.is_gone = True

    def new_place(self):
        """Creates a cgroup. Its kind decides the identity of the processes in it."""
        kind = self.random.choice(("plain", "nested", "nested", "container", "strange"))
        if kind == "plain":
            place = Place(f"/{self.named('plain')}", HOST)
        elif kind == "container":
            place = Place(f"/docker-{self.random.getrandbits(256):064x}.scope", QUARANTINED)
        elif kind == "strange":
            place = Place(f"{self.slice.path}/{self.named('strange')}", QUARANTINED)
        else:
            owners = [p.place for p in self.processes if p.place.owner() is not self.top]
            if not owners:
                return self.top
            parent = self.random.choice(owners)
            place = Place(f"{parent.path}/{self.named('below')}", None, parent)
        os.mkdir(self.path(place))
        return place

    def end(self, process):
        self.say(f"{process.name} ends")
        for each in [each for each in self.sockets if each.holder is process]:
            self.forget(each)
        process.attempts.end()
        self.processes.remove(process)
        self.host.agents.remove(process.attempts)
        self.leave(process.place)

    def forget(self, gone):
        """Removes a socket from the model, together with the other end of its connection."""
        if gone not in self.sockets:
            return
        self.sockets.remove(gone)
        if gone.kind == "end":
            other = gone.peer[0]
            if other in self.sockets:
                self.sockets.remove(other)
                other.holder.attempts.order("close", other.name)

    def workers(self):
        return [process for process in self.processes if process is not self.witness]

    # --- steps: each returns False if it is not possible now ---

    def step_workload(self):
        if len(self.processes) >= MOST_PROCESSES or not self.daemon_runs:
            return False
        inside = [p.place for p in self.processes if p.place.identity() is not QUARANTINED]
        process = self.begin(self.random.choice(inside), self.random.choice(SETS))
        return self.equip(process)

    def step_plain(self):
        if len(self.processes) >= MOST_PROCESSES:
            return False
        place = self.top if self.random.random() < 0.5 else self.new_place()
        return self.equip(self.begin(place))

    def equip(self, process):
        for _ in range(self.random.randrange(2, 6)):
            self.open(process)
        return True

    def step_end(self):
        if len(self.processes) < 3:
            return False
        self.end(self.random.choice(self.workers()))
        return True

    def step_restart(self):
        """A workload ends, and one with the same labels begins and opens the same ports."""
        old = [p for p in self.workers() if isinstance(p.place.identity(), Workload)]
        if not old or not self.daemon_runs:
            return False
        process = self.random.choice(old)
        labels = dict(process.place.identity().labels)
        mine = [each for each in self.sockets if each.holder is process and each.port]
        self.end(process)
        process = self.begin(self.top, labels)
        for each in mine:
            if each.kind in ("udp", "listener"):
                self.make(process, each.kind, each.address, each.port, each.group)
        return True

    def step_move(self):
        """A process moves to another cgroup; its sockets keep their identity."""
        if not self.workers():
            return False
        process = self.random.choice(self.workers())
        others = [p.place for p in self.processes]
        place = self.random.choice(others) if self.random.random() < 0.4 else self.new_place()
        old = process.place
        if place is old:
            return False
        with open(self.path(place) + "/cgroup.procs", "w", encoding="ascii") as procs:
            procs.write(str(process.attempts.process.pid))
        process.place = place
        self.say(f"{process.name} goes from {old.path or '/'} to {place.path or '/'}")
        self.leave(old)
        self.open(process)
        return True

    def step_open(self):
        if not self.workers() or len(self.sockets) >= MOST_SOCKETS:
            return False
        for _ in range(4):
            self.open(self.random.choice(self.workers()))
        return True

    def open(self, process):
        kind = self.random.choice(("udp",) * 6 + ("listener", "client", "link"))
        if len(self.sockets) >= MOST_SOCKETS:
            return False
        if kind == "client":
            return self.make(process, kind, self.random.choice(ANY), 0)
        if kind == "link":
            return self.link(process)
        version = self.random.choice((4, 4, 6))
        address = self.random.choice((*ADDRESSES[version], EVERYWHERE, EVERYWHERE))
        return self.make(process, kind, address, self.random.choice(PORTS))

    def make(self, process, kind, address, port, group=""):
        if len(self.sockets) >= MOST_SOCKETS:
            return False
        name = self.named({"udp": "u", "listener": "l", "client": "c"}[kind])
        forked = self.random.random() < 0.2
        is_elsewhere = not group and self.random.random() < 0.1
        v6 = ":" in address
        outcome = process.attempts.order(
            "make",
            name,
            kind,
            v6,
            [address, port] if port else None,
            group,
            forked,
            self.elsewhere if is_elsewhere else "",
        )
        self.say(
            f"{process.name} {'forks and ' if forked else ''}opens {name}: {kind} "
            f"[{address}]:{port} {group}{' elsewhere' if is_elsewhere else ''} {outcome}"
        )
        if outcome == "ok":
            made = Socket(name, kind, process.place, process, address, port, group, is_elsewhere)
            self.sockets.append(made)
        elif outcome != "EADDRINUSE":
            self.fail(f"{name} cannot be opened: {outcome}")
        return outcome == "ok"

    def step_group(self):
        """Opens sockets of several processes at one address and port."""
        if len(self.workers()) < 2 or len(self.sockets) > MOST_SOCKETS - 2:
            return False
        kind = self.random.choice(("udp", "listener"))
        version = self.random.choice((4, 6))
        address, port = self.random.choice(ADDRESSES[version]), self.random.choice(PORTS)
        choice = self.random.choice(("choose", "join"))
        for process in self.random.sample(self.workers(), 2):
            if not self.make(process, kind, address, port, choice):
                break
        return True

    def step_pass(self):
        """Passes a socket to another process."""
        if not self.sockets or len(self.workers()) < 2:
            return False
        each = self.random.choice(self.sockets)
        others = [process for process in self.workers() if process is not each.holder]
        if not others:
            return False
        self.hand_over(each, self.random.choice(others))
        return True

    def hand_over(self, each, process):
        _, (descriptor,) = each.holder.attempts.order_socket("give", each.name)
        process.attempts.order("take", each.name, give=[descriptor])
        os.close(descriptor)
        each.holder = process
        self.say(f"{each.name} is passed to {process.name}")

    def step_outlive(self):
        """A process ends after it has passed its sockets to others."""
        if len(self.workers()) < 2:
            return False
        process = self.random.choice(self.workers())
        others = [other for other in self.workers() if other is not process]
        for each in [each for each in self.sockets if each.holder is process]:
            self.hand_over(each, self.random.choice(others))
        self.end(process)
        return True

    def step_close(self):
        if len(self.sockets) < 12:
            return False
        each = self.random.choice(self.sockets)
        self.forget(each)
        each.holder.attempts.order("close", each.name)
        self.say(f"{each.name} is closed")
        return True

    def step_connect(self):
        """Connects a UDP socket to another, or disconnects it."""
        own = [each for each in self.sockets if each.kind == "udp" and not each.group]
        if not own:
            return False
        each = self.random.choice(own)
        if each.peer:
            each.peer, each.former = (), each.peer[0]
            each.holder.attempts.order("connect", each.name, "", 0)
            self.say(f"{each.name} is no longer connected")
            return True
        others = [
            other
            for other in own
            if other is not each
            and EVERYWHERE not in (each.address, other.address)
            and other.versions() == each.versions()
            and other.is_elsewhere == each.is_elsewhere
        ]
        if not others:
            return False
        other = self.random.choice(others)
        each.holder.attempts.order("connect", each.name, other.address, other.port)
        each.peer, each.former = (other.address, other.port), ""
        self.say(f"{each.name} is connected to {other.name}")
        return True

    def step_reload(self):
        if not self.daemon_runs:
            return False
        self.reload()
        return True

    def reload(self):
        self.policy = Policy(self.random, NEAR, PORTS)
        self.say(f"reload:\n{self.policy.text()}")
        self.host.explicit_reload(self.policy.text())
        self.explain()

    def explain(self):
        """`policy explain` must agree with the expected verdict for two random endpoints. @host is
        asked for by an address, because networks may contain some of this host's addresses."""
        labels = [self.random.choice([*SETS, None]) for _ in range(2)]
        if labels == [None, None]:
            return
        ends = [
            End(
                HOST if each is None else Workload(-i, tuple(sorted(each.items()))),
                self.random.choice([*ADDRESSES[4], *ADDRESSES[6]]),
            )
            for i, each in enumerate(labels)
        ]
        protocol, port = self.random.choice(("tcp", "udp")), self.random.choice(PORTS)
        texts = [end.address if end.who is HOST else text_of_labels(end.who.labels) for end in ends]
        done = self.host.trirectl(
            "policy",
            "explain",
            "--from",
            texts[0],
            "--to",
            texts[1],
            "--port",
            f"{protocol}/{port}",
        )
        expected = self.policy.allows(*ends, protocol, port)
        if done.returncode != (0 if expected else 1):
            self.fail(
                f"explain does not agree with the expected {expected}: {done.stdout}{done.stderr}"
            )

    def step_forget_flows(self):
        """Flushes conntrack: no local verdict may depend on it."""
        self.host.must(["conntrack", "-F"])
        self.sent.clear()
        self.say("conntrack is flushed")
        return True

    def step_kill(self):
        if not self.daemon_runs:
            return False
        self.host.stop(self.random.choice((signal.SIGKILL, signal.SIGTERM)))
        self.daemon_runs = False
        self.say("the daemon has ended")
        return True

    def step_save_meanwhile(self):
        """Saves a policy that comes into force at the daemon's next start."""
        if self.daemon_runs:
            return False
        self.saved = Policy(self.random, NEAR, PORTS)
        self.host.write("policy.toml", self.saved.text())
        self.say(f"saved while the daemon is down:\n{self.saved.text()}")
        return True

    def step_start(self):
        if self.daemon_runs:
            return False
        self.start()
        return True

    def start(self):
        self.host.start()
        self.daemon_runs = True
        self.policy, self.saved = self.saved or self.policy, None
        self.say("the daemon runs again")
        for place in {each.place.owner() for each in self.sockets}:
            if isinstance(place.who, Workload) and not place.is_gone:
                if not self.is_inhabited(place):
                    self.await_end(place)

    def step_restart_daemon(self):
        return self.step_kill() and self.step_start()

    STEPS = {
        "workload": 14,
        "plain": 8,
        "end": 6,
        "restart": 6,
        "move": 7,
        "open": 20,
        "group": 4,
        "pass": 8,
        "outlive": 5,
        "close": 5,
        "connect": 3,
        "reload": 18,
        "forget_flows": 3,
        "kill": 3,
        "save_meanwhile": 2,
        "start": 8,
        "restart_daemon": 1,
    }

    def step(self):
        names, weights = zip(*self.STEPS.items())
        while not getattr(self, f"step_{self.random.choices(names, weights)[0]}")():
            pass

    # --- the end ---

    def close(self):
        if not self.daemon_runs:
            self.host.start()
        places = {each for process in self.processes for each in process.place.with_parents()}
        self.host.kill_agents()
        for place in sorted(places, key=lambda place: -len(place.path)):
            path = self.path(place)
            if place not in (self.top, self.slice) and not isinstance(place.owner().who, Workload):
                if os.path.exists(path):
                    waiting.until(lambda: self.is_empty(path), f"{path} is empty")
                    os.rmdir(path)
        waiting.until(lambda: not self.host.workloads(), "all workloads are gone")

    @staticmethod
    def is_empty(path):
        with open(path + "/cgroup.events", encoding="ascii") as events:
            return "populated 0" in events.read()
