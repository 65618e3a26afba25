# SPDX-License-Identifier: Apache-2.0
"""Random sequences of events on a host (sequence.py). After each step real packets are sent between
all pairs of sockets; exactly those must arrive that the documented policy allows (expected.py).

What a socket may do depends on the cgroup that created it, wherever the socket is now, and on the
ports that it has sent to: datapath.md, "The gate". TRIREME_SEED=N repeats the episode that printed
N.
"""

import collections
import os
import random
import subprocess
import time
import unittest

from tests.system import waiting
from tests.system.expected import HOST, QUARANTINED, End, Workload
from tests.system.host import LOCAL4, LOCAL6, LONG, Host, HostCase
from tests.system.sequence import ADDRESSES, ANY, EVERYWHERE, MOST_SOCKETS, PORTS, Socket, World

EPISODES, STEPS = 32 if LONG else 2, 100
CLOSED = 7  # include/net/tcp_states.h
PROCESSORS = sorted(os.sched_getaffinity(0))
# Possible results of a packet. EITHER: the documents leave it open.
PASS, REFUSE, EITHER = "arrives", "is refused", "arrives or not"
BY_RULES = "is refused by rules"  # but not by the gate


def seed():
    given = os.environ.get("TRIREME_SEED")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


def mapped(address):
    return f"::ffff:{address}" if ":" not in address else address


def unmapped(address):
    return address[7:] if address.startswith("::ffff:") else address


class Trials(World):
    """The packets that are sent, and the expected results."""

    def __init__(self, host, elsewhere, number):
        self.mark = 0
        self.pairs = collections.Counter()
        self.known_to_ask = (None, False)
        super().__init__(host, elsewhere, number)

    # --- what is expected ---

    def flow(self, client, server, client_address, server_address, protocol, port):
        return self.policy.allows(
            End(client, client_address), End(server, server_address), protocol, port
        )

    def of_datagram(self, sender, receiver, source, destination):
        """The expected result of a datagram for `receiver`."""
        outcome = self.of_delivered(sender, receiver, source, destination)
        if outcome != REFUSE and ":" in receiver.former and receiver.former != source:
            return EITHER  # policy allows it; the kernel may not
        return outcome

    def of_delivered(self, sender, receiver, source, destination):
        theirs, own = sender.who(), receiver.who()
        if receiver.peer and receiver.peer != (source, sender.port):
            return REFUSE  # the datagram is not for this socket
        if QUARANTINED in (theirs, own):
            return REFUSE
        if self.flow(theirs, own, source, destination, "udp", receiver.port):
            return PASS

        def may_ask(port):
            return self.flow(own, theirs, destination, source, "udp", port)

        if receiver.peer:
            return PASS if may_ask(sender.port) else REFUSE
        asked = [receiver.has_asked(port) for port in PORTS if may_ask(port)]
        if True not in asked and None not in asked:
            return REFUSE
        if may_ask(sender.port):
            return PASS if True in asked else EITHER
        # The gate knows the ports that the socket has sent to, but not the addresses. Rules check
        # the port that an answer comes from, except in flows that conntrack has seen in both
        # directions.
        back = (destination, receiver.port, source, sender.port)
        return EITHER if back in self.sent or receiver.is_elsewhere else BY_RULES

    def asks(self, sender, port):
        """Models what the gate remembers. It remembers nothing for @host if no rule lets @host
        send; while no workload exists that a rule lets @host send to, the product may do either."""
        who = sender.who()
        if sender.peer or who is QUARANTINED:
            return
        if who is HOST and not self.policy.may_let_the_host_ask():
            return
        sender.asks(port, who is not HOST or self.host_may_ask())

    def host_may_ask(self):
        """True if policy lets processes of the host send to an existing workload."""
        here = {each.place.identity() for each in self.sockets + self.processes}
        here = frozenset(who for who in here if isinstance(who, Workload))
        if self.known_to_ask[0] != (self.policy, here):
            self.known_to_ask = (
                (self.policy, here),
                any(
                    self.policy.allows(End(HOST, address), End(who, ""), protocol, port)
                    for address in (*ADDRESSES[4], *ADDRESSES[6])
                    for who in here
                    for protocol in ("tcp", "udp")
                    for port in PORTS
                ),
            )
        return self.known_to_ask[1]

    # --- packets ---

    def pin(self, processor):
        """Binds all processes to one processor, so that all packets pass one queue
        (Attempts.barrier)."""
        for process in self.processes:
            os.sched_setaffinity(process.attempts.process.pid, {processor})

    def barrier(self, times=1):
        self.witness.attempts.order("barrier", times)

    def next_mark(self):
        self.mark += 1
        return self.mark

    def route(self, sender, receiver):
        """[source, destination] addresses, or None if there is no route."""
        versions = [v for v in sender.versions() if v in receiver.versions()]
        if not versions or sender.is_elsewhere != receiver.is_elsewhere:
            return None
        version = self.random.choice(versions)
        destination = receiver.address
        if destination == EVERYWHERE:
            destination = self.random.choice(ADDRESSES[version])
        if sender.address not in ANY:
            return sender.address, destination
        # The source address that the kernel selects: the destination itself, except in 127.0.0.0/8.
        return ("127.0.0.1" if destination.startswith("127.") else destination), destination

    def targets(self, kind):
        """Receiving sockets; those of a group together."""
        groups = collections.defaultdict(list)
        for each in self.sockets:
            if each.kind == kind:
                groups[(each.address, each.port) if each.group else each.name].append(each)
        return list(groups.values())

    def try_all(self):
        for processor in self.random.sample(PROCESSORS, min(2, len(PROCESSORS))):
            self.pin(processor)
            self.try_datagrams()
            self.try_requests()
        self.try_connections()

    def try_datagrams(self):
        expected, targets = {}, self.targets("udp")
        holders = self.random.sample(self.processes, len(self.processes))
        for holder in holders:
            sends = []
            for sender in [s for s in self.sockets if s.kind == "udp" and s.holder is holder]:
                for members in targets:
                    trial = self.plan_datagram(sender, members)
                    if trial:
                        mark = self.next_mark()
                        to, port = ("", 0) if sender.peer else (trial[3], members[0].port)
                        to = mapped(to) if to and ":" in sender.address else to
                        sends.append([sender.name, to, port, mark])
                        expected[mark] = trial
            self.random.shuffle(sends)
            if not sends:
                continue
            said = holder.attempts.order("send", sends, self.random.random() < 0.05)
            for send, outcome in zip(sends, said):
                sender, members, source, destination = expected[send[3]]
                outcomes = [self.of_datagram(sender, m, source, destination) for m in members]
                way = f"{source} to {destination}"
                expected[send[3]] = (sender, members, outcomes, way, outcome)
                if outcome == "ECONNREFUSED":
                    continue  # the error of an earlier datagram: nothing was sent
                self.asks(sender, members[0].port)
                if not sender.is_elsewhere:
                    self.sent.add((source, sender.port, destination, members[0].port))
        self.barrier()
        arrived = {}
        for holder in holders:
            names = [s.name for s in self.sockets if s.kind == "udp" and s.holder is holder]
            for name, datagrams in (holder.attempts.order("drain", names) if names else {}).items():
                for mark, source, _ in datagrams:
                    if mark not in expected or mark in arrived:
                        self.fail(f"{name} has datagram {mark}, which is late or a duplicate")
                    if not expected[mark][3].startswith(f"{unmapped(source)} "):
                        self.fail(f"{name} has {expected[mark]} from {source}")
                    arrived[mark] = name
        for mark, (sender, members, outcomes, way, said) in expected.items():
            self.compare("udp", sender, members, outcomes, arrived.get(mark), f"{way}: {said}")

    def plan_datagram(self, sender, members):
        receiver = members[0]
        if sender in members:
            return None
        way = self.route(sender, receiver)
        if way is None:
            return None
        if sender.peer and sender.peer != (way[1], receiver.port):
            return None
        return (sender, members, *way)

    def compare(self, kind, sender, members, outcomes, name, note):
        """`name`: the socket that received it, if any."""
        self.pairs[kind] += 1
        if members[0].group == "choose" and len({member.who() for member in members}) > 1:
            # Rules look the receiver up several times and may find a different member each time. So
            # they may refuse what policy allows for all members, or pass to one member what is
            # allowed for another. The gate then decides for the actual receiver.
            outcomes = [EITHER if outcome in (PASS, BY_RULES) else outcome for outcome in outcomes]
        by_name = {member.name: outcome for member, outcome in zip(members, outcomes)}
        if name is None:
            self.pairs["refused"] += 1
            wrong = all(outcome == PASS for outcome in outcomes)
        else:
            self.pairs["arrived"] += 1
            wrong = by_name.get(name) not in (PASS, EITHER)
        if EITHER in outcomes:
            self.pairs[f"left open, {'refused' if name is None else 'arrived'}"] += 1
        if wrong:
            details = "; ".join(
                f"{member.text()}: {outcome} is expected"
                for member, outcome in zip(members, outcomes)
            )
            self.fail(f"{kind} from {sender.text()} {note}, received by {name}; to {details}")

    def try_requests(self):
        """Connects each client to each listener, sequentially for each client."""
        trials = collections.defaultdict(list)
        targets = self.targets("listener")
        for client in [each for each in self.sockets if each.kind == "client"]:
            for members in self.random.sample(targets, len(targets)):
                way = self.route(client, members[0])
                if way is not None:
                    trials[client].append((members, *way))
        while trials:
            turn = {client: waiting_trials.pop() for client, waiting_trials in trials.items()}
            trials = {client: left for client, left in trials.items() if left}
            self.request(turn)

    def request(self, turn):
        marks, by_holder = {}, collections.defaultdict(list)
        for client, (members, _, destination) in turn.items():
            marks[client] = self.next_mark()
            to = mapped(destination) if client.address == "::" else destination
            by_holder[client.holder].append([client.name, to, members[0].port])
        for holder, dials in by_holder.items():
            holder.attempts.order("dial", dials)
        self.barrier(4)
        by_name = {client.name: client for client in turn}
        for holder, dials in by_holder.items():
            holder.attempts.order("say", [[dial[0], marks[by_name[dial[0]]]] for dial in dials])
        self.barrier(2)
        received = {}
        listeners = collections.defaultdict(list)
        for each in self.sockets:
            if each.kind == "listener":
                listeners[each.holder].append(each.name)
        for holder, names in listeners.items():
            for name, said in holder.attempts.order("answer", names).items():
                received.update({mark: name for mark in said})
        self.barrier(3)
        for holder, dials in by_holder.items():
            said = holder.attempts.order("conclude", [dial[0] for dial in dials])
            for (name, _, _), (outcome, answer) in zip(dials, said):
                client, mark = by_name[name], marks[by_name[name]]
                self.check_request(
                    client, *turn[client], outcome, received.get(mark), answer == mark
                )
        self.barrier(2)
        for holder in listeners:
            holder.attempts.order("hang_up")

    def check_request(self, client, members, source, destination, outcome, listener, answered):
        outcomes = [
            (
                PASS
                if self.flow(client.who(), m.who(), source, destination, "tcp", m.port)
                else REFUSE
            )
            for m in members
        ]
        note = f"{source} to {destination}: {outcome}, {'answered' if answered else 'no answer'}"
        if outcome == "ok" and not (listener and answered):
            self.fail(
                f"{client.text()} {note}: nothing arrives on the connection; {members[0].text()}"
            )
        if outcome != "ok" and listener:
            self.fail(f"{client.text()} {note}: its data arrives at {listener}")
        self.compare("tcp", client, members, outcomes, listener, note)
        # A refusal is visible at once if policy rejects, neither end is in quarantine, rules exist,
        # and they have found the listener that TCP selects.
        is_seen = outcome not in ("ok", "silence")
        are_there = len(members) == 1 and not client.is_elsewhere
        if are_there and outcomes == [REFUSE] and not self.policy.is_silent:
            if QUARANTINED not in (client.who(), members[0].who()) and not is_seen:
                self.fail(f"{client.text()} {note}: a silent refusal by {members[0].text()}")

    def link(self, process):
        """Opens a connection that stays open."""
        if len(self.sockets) > MOST_SOCKETS - 2:
            return False
        targets = [each for each in self.targets("listener") if not each[0].is_elsewhere]
        if not targets:
            return False
        members = self.random.choice(targets)
        client = Socket(self.named("e"), "end", process.place, process)
        client.address = EVERYWHERE
        source, destination = self.route(client, members[0])
        outcomes = {
            self.flow(client.who(), m.who(), source, destination, "tcp", m.port) for m in members
        }
        if outcomes != {True}:
            return False
        self.pin(PROCESSORS[0])
        attempts = process.attempts
        attempts.order("make", client.name, "client", True, None)
        attempts.order("dial", [[client.name, mapped(destination), members[0].port]])
        self.barrier(5)
        for member in members:
            name = self.named("e")
            if member.holder.attempts.order("keep", member.name, name) == "ok":
                break
        else:
            self.fail(f"{process.name} cannot connect to {members[0].text()}")
        client.address, client.port = source, attempts.order("port", client.name)
        server = Socket(name, "end", member.place, member.holder, destination, member.port)
        client.peer, server.peer = (server, True), (client, False)
        self.sockets += [client, server]
        self.say(f"{client.text()} is connected to {server.text()}")
        return True

    def try_connections(self):
        pairs = [
            (each, each.peer[0]) for each in self.sockets if each.kind == "end" and each.peer[1]
        ]
        said = {}
        for ends in pairs:
            for each in ends:
                said[each] = self.next_mark()
                each.holder.attempts.order("say", [[each.name, said[each]]])
        if pairs:
            self.barrier(3)
        for client, server in pairs:
            arrived = [
                each.holder.attempts.order("receive", [each.name]) == [said[other]]
                for each, other in ((client, server), (server, client))
            ]
            # Nothing records which of the two has sent first.
            there = (client.who(), server.who(), client.address, server.address)
            back = (server.who(), client.who(), server.address, client.address)
            is_allowed = self.flow(*there, "tcp", server.port) or self.flow(
                *back, "tcp", client.port
            )
            self.pairs["connections"] += 2
            if arrived != [is_allowed] * 2:
                self.fail(
                    f"connection of {client.text()} and {server.text()}: arrived {arrived}, expected {is_allowed}"
                )
            if not is_allowed:
                self.drop(client, server)

    def drop(self, *ends):
        """Expects that the daemon ends a connection that is no longer allowed, if it knows both
        ends."""
        is_known = not any(each.place.is_gone for each in ends)  # else only the gate does
        if self.daemon_runs and is_known and QUARANTINED not in [each.who() for each in ends]:
            for each in ends:
                waiting.until(
                    lambda each=each: each.holder.attempts.order("states", [each.name]) == [CLOSED],
                    f"{each.name} sees the end of its connection",
                    60,
                )
        self.say(f"{' and '.join(each.name for each in ends)} are no longer connected")
        for each in ends:
            self.sockets.remove(each)
            each.holder.attempts.order("close", each.name)


class Property(HostCase):
    # No Docker reports containers here, so they stay in quarantine.
    IDENTITY = '[docker]\nsocket = "/nowhere/docker.sock"\n'

    @classmethod
    def setUpClass(cls):
        cls.host = Host(cls.POLICY, cls.IDENTITY, bpffs=True)
        cls.addClassCleanup(cls.host.close)
        name = cls.host.undo.name("n")
        cls.host.undo.add("netns", name)
        subprocess.run(["ip", "netns", "add", name], check=True)
        for line in ("link set lo up", f"addr add {LOCAL4}/32 dev lo"):
            subprocess.run(["ip", "-n", name, *line.split()], check=True)
        line = f"addr add {LOCAL6}/128 dev lo nodad"
        subprocess.run(["ip", "-n", name, *line.split()], check=True)
        cls.elsewhere = f"/run/netns/{name}"

    def test_every_pair_does_what_policy_says(self):
        first, pairs, began = seed(), collections.Counter(), time.monotonic()
        for number in range(first, first + EPISODES):
            print(f"TRIREME_SEED={number}", flush=True)
            pairs += self.episode(number)
        tried = sum(pairs[kind] for kind in ("udp", "tcp", "connections"))
        print(
            f"{EPISODES * STEPS} steps from seed {first}, {tried} pairs in"
            f" {time.monotonic() - began:.0f} s: {dict(pairs)}",
            flush=True,
        )
        self.assertGreaterEqual(tried, 300_000 if LONG else 15_000)
        for outcome in ("arrived", "refused"):
            self.assertGreaterEqual(pairs[outcome], tried / 10, outcome)

    def episode(self, number):
        world = Trials(self.host, self.elsewhere, number)
        try:
            for _ in range(STEPS):
                world.step()
                world.try_all()
        except BaseException as error:
            details = "\n".join(f"{i}. {text}" for i, text in enumerate(world.story))
            print(f"{details}\nTRIREME_SEED={number}: {error}", flush=True)
            raise
        finally:
            world.close()
        return world.pairs


if __name__ == "__main__":
    unittest.main()
