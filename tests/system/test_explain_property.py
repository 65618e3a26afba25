# SPDX-License-Identifier: Apache-2.0
"""`policy explain` against packets: random policies, and for each many random pairs of endpoints on
the host, in containers on its bridge, on a second host, and at addresses of the world. What the
daemon explains must be what the kernel does, in both directions, by labels, @host, @world, and
networks by CIDR and by DNS name.

TRIREME_SEED=N repeats the run that printed N.
"""

import collections
import concurrent.futures
import os
import random
import time
import unittest

from tests.system import nameserver
from tests.system.crossing import BRIDGE4, HERE4, THERE4, CrossingCase
from tests.system.host import LONG, kill_quietly

POLICIES, PAIRS = 40 if LONG else 10, 50
FIRST_PORT = 7300
RESOLVER4, NEAR4, NAMED4, OTHER4 = "10.97.53.53", "10.97.1.1", "10.97.2.1", "10.97.3.1"
NAME = "far.example.org"
PORTS = range(FIRST_PORT, FIRST_PORT + 12)

# Always there, so that names stay known: who may ask for them, and networks of each kind.
FRAME = f"""
[[network]]
name = "dns"
cidrs = ["{RESOLVER4}"]
[[network]]
name = "near"
cidrs = ["10.97.1.0/24"]
[[network]]
name = "named"
names = ["{NAME}", "*.pool.example.org"]
[[network]]
name = "both"
cidrs = ["10.97.1.0/25", "{HERE4}"]
names = ["*.example.org"]
[[network]]
name = "bridge"
cidrs = ["{BRIDGE4}"]
[[network]]
name = "loop"
cidrs = ["127.0.0.0/8"]
[[network]]
name = "hosts"
cidrs = ["10.98.0.0/24"]
[[allow]]
from = "*"
to = "@dns"
ports = ["udp/53"]
"""
ENTITIES = ["@host", "@host", "@world", "@world"]
ENTITIES += ["@near", "@named", "@both", "@bridge", "@loop", "@hosts"]
SELECTORS = ["*", "app=a", "app=b", "app=c", "app=d", "app=p", "app in (a, c)", "app notin (a, p)"]
SELECTORS += ["env=x", "env in (x, y)", "!env", "env, app=c"]


def seed():
    """A short run repeats cases that are known; a long run looks for others."""
    given = os.environ.get("TRIREME_SEED", "" if LONG else "80792")
    return int(given) if given else random.SystemRandom().randrange(1_000_000)


def random_policy(chosen):
    def side(only_labels):
        kind = SELECTORS if only_labels or chosen.random() < 0.5 else ENTITIES
        peers = dict.fromkeys(chosen.choices(kind, k=chosen.choice((1, 1, 2))))
        return ", ".join(f'"{each}"' for each in peers)

    def rule():
        labels_first = chosen.random() < 0.5  # one side must be workloads
        # Every rule names ports of servers: none lets a client be asked, so that no answer depends
        # on which ports a socket has sent to.
        spans = []
        for _ in range(chosen.choice((1, 1, 2))):
            wide = chosen.random() < 0.4
            first, last = sorted(chosen.choices(PORTS, k=2)) if not wide else (PORTS[0], PORTS[-1])
            spans.append(f'"{chosen.choice(("tcp", "udp"))}/{first}-{last}"')
        return (
            f"[[{'deny' if chosen.random() < 0.15 else 'allow'}]]\n"
            f"from = [{side(labels_first)}]\nto = [{side(not labels_first)}]\n"
            f"ports = [{', '.join(spans)}]\n"
            + ('mode = "audit"\n' if chosen.random() < 0.1 else "")
        )

    baseline = chosen.choice(("same-labels", "any-common-label", "none"))
    rules = "".join(rule() for _ in range(chosen.randrange(6, 24)))
    return f'[defaults]\nbaseline = "{baseline}"\n{FRAME}{rules}'


class Place:
    """A process that asks and answers. `kind`: of this host (labeled or not), a container, a
    workload or an unlabeled process of the peer, or an address of the world."""

    def __init__(self, kind, agent, port, addresses, names, source=None):
        self.kind, self.agent, self.port = kind, agent, port
        self.addresses = addresses  # where it answers, by the kind of the client
        self.names = names  # what it is called in questions; None: the address in use
        self.source = source  # that it binds as a client
        self.is_far = kind in ("far workload", "far process", "world")

    def is_workload(self):
        return self.kind in ("workload", "container", "far workload")


class ExplainProperty(CrossingCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.use, "")
        self.ports = iter(PORTS)
        self.places = []
        self.use(FRAME)
        self.fill()
        process = nameserver.start(
            self.peer.popen, [RESOLVER4], {NAME: {"answers": [[None, "A", NAMED4, 0]]}}
        )
        self.addCleanup(kill_quietly, process)

    def add(self, kind, agent, addresses, names, source=None, bound="0.0.0.0"):
        port = next(self.ports)
        for protocol in ("tcp", "udp"):
            agent.serve(protocol, bound, port)
        self.places.append(Place(kind, agent, port, addresses, names, source))

    def fill(self):
        local = ["127.0.0.1", BRIDGE4, HERE4]
        for labels in ("app=a,env=x", "app=b"):
            made, name = self.labelled(labels)
            self.add("workload", made, local, [name, labels])
        self.add("process", self.plain(), local, ["@host", None])
        for name, labels in (("box", "app=c,env=x"), ("bin", "app=d,env=y")):
            made, address = self.container(name, labels)
            self.add("container", made, [address], [name, labels, None])
        made = self.peer.labelled("app=p,env=x")
        self.add("far workload", made, [THERE4], ["app=p,env=x"])
        self.add("far process", self.peer.plain(), [THERE4], [None])
        for address, names in ((NEAR4, [None]), (NAMED4, [None, NAME]), (OTHER4, [None, "@world"])):
            self.add("world", self.peer.plain(), [address], names, address, address)

    # --- one pair ---

    def random_pair(self, chosen):
        while True:
            client, server = chosen.sample(self.places, 2)
            kind = chosen.choice(("tcp", "tcp", "udp"))
            ends = {client.kind, server.kind}
            if client.is_far and server.is_far:
                continue  # not of this host
            if not client.is_workload() and not server.is_workload():
                continue  # policy does not apply
            # A handshake in datagrams waits for seconds for a remote process without labels.
            if kind == "udp" and ("far process" in ends or ends == {"far workload", "process"}):
                continue
            return client, server, kind, self.address_for(client, server, kind, chosen)

    @staticmethod
    def address_for(client, server, kind, chosen):
        if server.kind in ("workload", "process"):
            if client.kind == "container":
                # A wildcard socket answers datagrams from the address on the way back.
                return BRIDGE4 if kind == "udp" else chosen.choice((BRIDGE4, HERE4))
            if client.is_far:
                return HERE4
        return chosen.choice(server.addresses)

    @staticmethod
    def source_of(client, server, address):
        """The address that the server's host sees."""
        if client.source:
            return client.source
        if client.kind == "far process":
            return THERE4
        if server.kind == "container":
            return BRIDGE4
        if server.is_far:
            return HERE4
        return address  # on lo, a client has the address that it asks

    def question(self, chosen, client, server, kind, address):
        source = chosen.choice(client.names) or (
            client.addresses[0]
            if client.kind == "container"
            else self.source_of(client, server, address)
        )
        target = chosen.choice(server.names) or address
        return source, target, f"{kind}/{server.port}"

    @staticmethod
    def passes(answer, client, server):
        """What the answer says about this pair: a part of it, where the question stands for
        several."""
        groups = [([answer["from"], answer["to"]], answer["passes"], answer["verdict"])]
        groups += [(p["ends"], p["passes"], p["verdict"]) for p in answer["other_parts"]]

        def of(words):
            return [g[1] for g in groups if any(words in end for end in g[0])]

        if answer["verdict"] == "unknown":
            (passes,) = of(", without labels")
            return passes
        if "far workload" in (client.kind, server.kind) and of("on another host"):
            return all(of("on another host"))
        return answer["passes"]

    def narrow(self, trials):
        """Asks again, by address, where @host stands for addresses that are decided differently."""
        again = [
            trial
            for trial in trials
            if "@host" in trial["question"][:2] and trial["answer"]["other_parts"]
        ]
        for trial in again:
            client, server, _, address = trial["pair"]
            source, target, port = trial["question"]
            source = self.source_of(client, server, address) if source == "@host" else source
            target = address if target == "@host" else target
            trial["question"] = (source, target, port)
        for trial, answer in zip(again, self.explain([t["question"] for t in again])):
            trial["answer"] = answer

    def attempt(self, agent, trials):
        """All trials of one client, one after the other."""
        for trial in trials:
            client, server, kind, address = trial["pair"]
            source = [client.source, 0] if client.source else None
            # Once more where it should pass: a first datagram can be lost to a handshake.
            for _ in range(3 if trial["expected"] else 1):
                trial["outcome"] = agent.exchange(
                    kind,
                    address,
                    server.port,
                    source=source,
                    timeout=3 if trial["expected"] else 1,
                )
                if trial["outcome"] == "ok":
                    break

    # --- the run ---

    def look_up(self):
        """Every enforcement point learns the address of the name."""
        for place in self.places:
            if place.kind in ("workload", "container"):
                address, _ = place.agent.look_up_and_connect(NAME, RESOLVER4, 1)
                self.assertEqual(address, NAMED4)

    def try_policy(self, chosen, number):
        policy = random_policy(chosen)
        self.use(policy)
        self.look_up()
        pairs = [self.random_pair(chosen) for _ in range(PAIRS)]
        trials = [{"pair": pair, "question": self.question(chosen, *pair)} for pair in pairs]
        for trial, answer in zip(trials, self.explain([t["question"] for t in trials])):
            trial["answer"] = answer
        self.narrow(trials)
        by_client = collections.defaultdict(list)
        for trial in trials:
            client, server, _, _ = trial["pair"]
            trial["expected"] = self.passes(trial["answer"], client, server)
            by_client[client.agent].append(trial)
        with concurrent.futures.ThreadPoolExecutor(len(by_client)) as pool:
            for done in [pool.submit(self.attempt, *item) for item in by_client.items()]:
                done.result()
        differences = []
        for trial in trials:
            client, server, kind, address = trial["pair"]
            self.count[f"{client.kind} to {server.kind}"] += 1
            self.count["allowed" if trial["expected"] else "denied"] += 1
            if (trial["outcome"] == "ok") != trial["expected"]:
                differences.append(
                    f"{client.kind} to {server.kind} at {address} {kind}/{server.port}: "
                    f"{trial['outcome']}; {' '.join(trial['question'])}:\n{trial['answer']['text']}"
                )
        self.assertEqual(differences, [], f"policy {number}:\n{policy}\n" + "\n".join(differences))

    def test_what_is_explained_is_what_happens(self):
        number, began = seed(), time.monotonic()
        print(f"TRIREME_SEED={number}", flush=True)
        chosen, self.count = random.Random(number), collections.Counter()
        for policy in range(POLICIES):
            self.try_policy(chosen, policy)
        tried = self.count["allowed"] + self.count["denied"]
        print(
            f"{tried} pairs under {POLICIES} policies from seed {number} in "
            f"{time.monotonic() - began:.0f} s: {dict(self.count)}",
            flush=True,
        )
        self.assertEqual(tried, POLICIES * PAIRS)
        for outcome in ("allowed", "denied"):
            self.assertGreaterEqual(self.count[outcome], tried / 10, outcome)


if __name__ == "__main__":
    unittest.main()
