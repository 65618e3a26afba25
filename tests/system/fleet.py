# SPDX-License-Identifier: Apache-2.0
"""Several hosts on one link or on both sides of a router, with shared credentials."""

import os
import subprocess

from tests.system import host, undo

IDENTITY = '[host]\nname = "{name}"\npeers = ["10.97.0.0/24", "10.98.0.0/24", "fd00:97::/64", "fd00:98::/64"]\n{more}\n{trust}'

# Drops packets that conntrack calls INVALID, in a hook after trireme's.
STRICT = """table inet strict {
chain in {
  type filter hook input priority 10
  ct state invalid drop
}
chain out {
  type filter hook output priority 10
  ct state invalid drop
}
}
"""


def pki(*arguments):
    subprocess.run([host.TRIRECTL, "pki", *arguments], check=True, stdout=subprocess.DEVNULL)


def certificate_section(directory, name, authority="ca"):
    """Issues a key and a certificate. Returns the section that names them."""
    out = f"{directory}/{name}"
    pki("issue", f"{directory}/{authority}", "--host", name, "--out", out)
    return f'[trust]\ncertificate = "{out}/host.pem"\nkey = "{out}/host.key"\nca = ["{directory}/{authority}/ca.pem"]\n'


def certificates(directory, names):
    """Issues certificates for all hosts under one CA. Returns a [trust] section for each host."""
    pki("init", directory + "/ca", "--name", "fleet")
    return {name: certificate_section(directory, name) for name in names}


def shared_secret(directory, names):
    pki("psk", directory + "/psk")
    return {name: f'[trust]\npsk_file = "{directory}/psk"\n' for name in names}


def bare(_directory, names):
    return {name: "" for name in names}


class Router:
    """A network namespace that forwards between 10.97.0.0/24 and 10.98.0.0/24 and their IPv6
    counterparts. It masquerades, drops what conntrack calls INVALID, and translates port 8081 of
    its own near addresses to port 8080 of the server."""

    RULES = """table inet router {
chain forward {
  type filter hook forward priority 0
  ct state invalid drop
}
chain pre {
  type nat hook prerouting priority -100
  ip daddr 10.97.0.254 meta l4proto { tcp, udp } th dport 8081 dnat ip to 10.98.0.2:8080
  ip6 daddr fd00:97::fe meta l4proto { tcp, udp } th dport 8081 dnat ip6 to [fd00:98::2]:8080
}
chain post {
  type nat hook postrouting priority 100
  oifname "far*" masquerade
}
}
"""

    def __init__(self, undo_list):
        self.netns = undo_list.name("r")
        undo_list.add("netns", self.netns)
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.run("ip", "link", "set", "lo", "up")
        for setting in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
            self.run("sysctl", "-qw", setting)
        self.run("nft", self.RULES)

    def run(self, *argv):
        subprocess.run(["ip", "netns", "exec", self.netns, *argv], check=True)

    def attach(self, link, four, six):
        for words in (
            ("addr", "add", four, "dev", link),
            ("addr", "add", six, "dev", link, "nodad"),
            ("link", "set", link, "up"),
        ):
            self.run("ip", *words)


class Fleet:
    """Hosts by name, started. The first has the addresses .1 of its networks, the next .2, and so
    on. With `routed` the first host is on 10.97.0.0/24, and a router connects it to the others on
    10.98.0.0/24."""

    # The router's addresses on both sides: those that it translates, and those that it masquerades
    # to.
    TRANSLATED = 'nat = ["10.97.0.254", "fd00:97::fe", "10.98.0.254", "fd00:98::fe"]\n'

    def __init__(self, names, trust, routed=False, policy="", more="", start=True, declared=True):
        self.undo = undo.Undo()
        self.names = list(names)
        self.routed = routed
        more += self.TRANSLATED if routed and declared else ""
        self.hosts = {}
        try:
            sections = trust(self.undo.directory, self.names)
            for name in self.names:
                self.hosts[name] = host.Host(
                    policy, IDENTITY.format(name=name, more=more, trust=sections[name]), start=False
                )
            self._wire()
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name):
        return self.hosts[name]

    def start(self):
        for each in self.hosts.values():
            each.start()

    def _wire(self):
        """Connects the hosts by a bridge in a namespace of its own; the far side of a router is one
        of the bridge's ports. Two hosts alone are connected directly."""
        if not self.routed and len(self.names) == 2:
            one, other = (self.hosts[name] for name in self.names)
            self._pair("net0", one.netns, "net0", other.netns)
            for number, each in enumerate((one, other), 1):
                self._configure(each, f"10.98.0.{number}/24", f"fd00:98::{number}/64")
            return
        self.link = self.undo.name("b")
        self.undo.add("netns", self.link)
        subprocess.run(["ip", "netns", "add", self.link], check=True)
        self._ip("link", "add", "wire", "type", "bridge")
        self._ip("link", "set", "wire", "up")
        far = self.names
        if self.routed:
            self.router = Router(self.undo)
            first, far = self.hosts[self.names[0]], self.names[1:]
            self._pair("net0", first.netns, "near0", self.router.netns)
            self.router.attach("near0", "10.97.0.254/24", "fd00:97::fe/64")
            self._configure(first, "10.97.0.1/24", "fd00:97::1/64")
            first.ip("route add default via 10.97.0.254")
            first.ip("route add default via fd00:97::fe")
            self._port("far0", self.router.netns)
            self.router.attach("far0", "10.98.0.254/24", "fd00:98::fe/64")
        for name in far:
            each, number = self.hosts[name], self.names.index(name) + 1
            self._port("net0", each.netns)
            self._configure(each, f"10.98.0.{number}/24", f"fd00:98::{number}/64")
        if self.routed:
            for each in self.hosts.values():
                each.nft(STRICT)

    def _ip(self, *words):
        subprocess.run(["ip", "-n", self.link, *words], check=True)

    @staticmethod
    def _pair(one, one_netns, other, other_netns):
        subprocess.run(
            [
                "ip",
                "-n",
                one_netns,
                "link",
                "add",
                one,
                "type",
                "veth",
                "peer",
                "name",
                other,
                "netns",
                other_netns,
            ],
            check=True,
        )

    def _port(self, name, netns):
        self._ports = getattr(self, "_ports", 0) + 1
        port = f"p{self._ports}"
        self._pair(name, netns, port, self.link)
        self._ip("link", "set", port, "master", "wire", "up")

    @staticmethod
    def _configure(each, four, six):
        for line in (
            f"addr add {four} dev net0",
            f"addr add {six} dev net0 nodad",
            "link set net0 up",
        ):
            each.ip(line)

    def addresses(self, name):
        number = self.names.index(name) + 1
        return f"10.98.0.{number}", f"fd00:98::{number}"

    def kill_agents(self):
        for each in self.hosts.values():
            each.kill_agents()

    def last_words(self):
        for name, each in self.hosts.items():
            if os.path.exists(each.log):
                print(
                    f"--- {name}'s daemon, end of its log:\n{each.log_text()[-2500:]}", flush=True
                )

    def close(self):
        for each in self.hosts.values():
            each.close()
        self.undo.run()


class FleetCase:
    """A test with a `fleet`. If it fails, the last output of the daemons is shown."""

    def _callTestMethod(self, method):
        try:
            method()
        except BaseException:
            self.fleet.last_words()
            raise
