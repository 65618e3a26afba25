# SPDX-License-Identifier: Apache-2.0
"""Which flows are allowed, according to trireme-policy.toml(5) alone: generates random policies and
their TOML, and predicts what they allow.

It shares no code with the product and does not use its classes, groups and profiles, so it can find
faults of the compiler, of the kernel's sets and of the gate. `trirectl policy explain` cannot: it
uses the evaluator that the compiler is tested against.
"""

import dataclasses
import ipaddress

HOST, QUARANTINED = "@host", "quarantine"  # owners of sockets other than workloads

KEYS = {"app": ("a", "b", "ab"), "env": ("x", "y")}
SETS = [
    {"app": "a"},
    {"app": "b"},
    {"app": "ab"},
    {"app": "a", "env": "x"},
    {"app": "a", "env": "y"},
    {"app": "b", "env": "x"},
    {"env": "x"},
]


@dataclasses.dataclass(frozen=True)
class Workload:
    number: int
    labels: tuple  # pairs, sorted


@dataclasses.dataclass(frozen=True)
class End:
    who: object  # a Workload, HOST or QUARANTINED
    address: str


def text_of_labels(labels):
    return ",".join(f"{key}={value}" for key, value in labels)


# --- selectors: lists of (key, operator, values), which are ANDed ---
# The other models of selectors are in tests/unit/policy_property_test.cpp and
# policy_compile_property_test.cpp.

# By their names in include/trireme/policy/selector.hpp.
OPERATORS = {"in": "in", "not_in": "notin", "exists": "exists", "not_exists": "absent"}


def _holds(requirement, labels):
    key, operator, values = requirement
    if operator in ("exists", "absent"):
        return (key in labels) == (operator == "exists")
    listed = key in labels and any(
        labels[key].startswith(value[:-1]) if value.endswith("*") else labels[key] == value
        for value in values
    )
    return listed == (operator == "in")


def _text_of_requirement(requirement):
    key, operator, values = requirement
    if operator == "exists":
        return key
    if operator == "absent":
        return f"!{key}"
    if len(values) == 1:
        return f"{key}{'=' if operator == 'in' else '!='}{values[0]}"
    return f"{key} {operator} ({', '.join(values)})"


def _random_selector(random):
    if random.random() < 0.2:
        return []  # matches all workloads
    keys = random.sample(sorted(KEYS), random.choice((1, 1, 2)))
    selector = []
    for key in keys:
        operator = random.choice(("in", "in", "in", "in", "notin", "exists", "absent"))
        values = random.sample([*KEYS[key], KEYS[key][0] + "*"], random.choice((1, 1, 2)))
        selector.append((key, operator, values if operator in ("in", "notin") else []))
    return selector


# --- peers: ("labels", selector), ("host",) or ("network",) ---


def _random_peers(random, only_labels):
    if only_labels or random.random() < 0.6:
        return [("labels", _random_selector(random)) for _ in range(random.choice((1, 1, 2)))]
    return [("host",)] if random.random() < 0.7 else [("network",)]


def _text_of_peer(peer):
    if peer[0] == "labels":
        return ", ".join(map(_text_of_requirement, peer[1])) or "*"
    return "@host" if peer[0] == "host" else "@near"


@dataclasses.dataclass
class Rule:
    action: str
    is_tried: bool  # mode = "audit"
    origin: list
    target: list
    ports: list  # (protocol, first, last); empty: all

    def text(self):
        words = [f"[[{self.action}]]"]
        for word, peers in (("from", self.origin), ("to", self.target)):
            words.append(
                f"{word} = [{', '.join(chr(34) + _text_of_peer(p) + chr(34) for p in peers)}]"
            )
        if self.ports:
            texts = [
                f'"{protocol}/{first}-{last}"' if first != last else f'"{protocol}/{first}"'
                for protocol, first, last in self.ports
            ]
            words.append(f"ports = [{', '.join(texts)}]")
        if self.is_tried:
            words.append('mode = "audit"')
        return "\n".join(words) + "\n"


class Policy:
    """`near`: the addresses in the network of that name."""

    def __init__(self, random, near, ports):
        self.near = near
        self.baseline = random.choice(("same-labels", "same-labels", "any-common-label", "none"))
        self.is_silent = random.random() < 0.3  # refuse = "drop"
        self.rules = [self._random_rule(random, ports) for _ in range(random.randrange(1, 9))]

    @staticmethod
    def _random_rule(random, ports):
        labels_first = random.random() < 0.5  # at least one side must be workloads
        spans = []
        for _ in range(random.choice((0, 0, 1, 1, 2))):
            first, last = sorted(random.choices(ports, k=2))
            spans.append((random.choice(("tcp", "udp")), first, last))
        return Rule(
            "deny" if random.random() < 0.2 else "allow",
            random.random() < 0.1,
            _random_peers(random, labels_first),
            _random_peers(random, not labels_first),
            spans,
        )

    def text(self):
        near = ", ".join(f'"{address}"' for address in self.near)
        return (
            f'[defaults]\nbaseline = "{self.baseline}"\n'
            f'refuse = "{"drop" if self.is_silent else "reject"}"\n'
            f'[[network]]\nname = "near"\ncidrs = [{near}]\n'
            + "".join(rule.text() for rule in self.rules)
        )

    def allows(self, origin, target, protocol, port):
        """True if a flow may begin between these two endpoints of this host."""
        if QUARANTINED in (origin.who, target.who):
            return False
        if origin.who == target.who:
            return True  # processes of @host with each other, a workload with itself
        matching = {
            rule.action
            for rule in self.rules
            if not rule.is_tried and self._applies(rule, origin, target, protocol, port)
        }
        return "deny" not in matching and ("allow" in matching or self._by_baseline(origin, target))

    def _applies(self, rule, origin, target, protocol, port):
        return (
            (not rule.ports or any(p == protocol and a <= port <= b for p, a, b in rule.ports))
            and any(self._covers(peer, origin) for peer in rule.origin)
            and any(self._covers(peer, target) for peer in rule.target)
        )

    def _covers(self, peer, end):
        if isinstance(end.who, Workload):
            return peer[0] == "labels" and all(
                _holds(requirement, dict(end.who.labels)) for requirement in peer[1]
            )
        if peer[0] == "network":
            address = ipaddress.ip_address(end.address)
            return any(address in ipaddress.ip_network(network) for network in self.near)
        return peer[0] == "host"

    def _by_baseline(self, origin, target):
        if not (isinstance(origin.who, Workload) and isinstance(target.who, Workload)):
            return False
        if self.baseline == "same-labels":
            return origin.who.labels == target.who.labels
        common = set(origin.who.labels) & set(target.who.labels)
        return self.baseline == "any-common-label" and bool(common)

    def may_let_the_host_ask(self):
        """True if any rule allows @host to begin a flow."""
        return any(
            rule.action == "allow" and not rule.is_tried and rule.origin[0][0] != "labels"
            for rule in self.rules
        )
