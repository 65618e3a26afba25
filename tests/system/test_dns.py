# SPDX-License-Identifier: Apache-2.0
"""A name server in a container on the host's network, queried by dig and by libc from processes of
the host, from bridge containers and from a second host, over UDP and TCP, IPv4 and IPv6."""

import os
import subprocess
import unittest

from tests.system import fleet, host, images, lab, waiting

SERVER = {"4": "10.96.0.1", "6": "fd00:96::1"}  # the booted host on the link to the second one
SECOND = {"4": "10.96.0.2", "6": "fd00:96::2"}
IDENTITY = (
    '[host]\nname = "{name}"\npeers = ["10.96.0.0/24", "fd00:96::/64"]\n[trust]\npsk_file = "psk"\n'
)
RULE = '[[allow]]\nfrom = {}\nto = "app=dns"\nports = ["udp/53", "tcp/53"]\n'
ADDRESS = "192.0.2.7"
WAYS = [
    f"{by} {family} {way}" for by in ("dig", "libc") for family in SERVER for way in ("udp", "tcp")
]
# Prints one line for each kind of query: its name and its result. libc queries both families at
# once from one socket.
ASK = f"""ask() {{
  dig=; libc=; [ $3 = tcp ] && dig=+tcp && libc=use-vc
  echo "dig $1 $3 $(dig +short +tries=1 +time=3 $dig @$2 web.test | tail -n 1)"
  echo "nameserver $2" >/etc/resolv.conf; echo "options attempts:1 timeout:3 $libc" >>/etc/resolv.conf
  echo "libc $1 $3 $(getent ahosts web.test | cut -d' ' -f1 | uniq)"
}}
for way in udp tcp; do ask 4 {SERVER["4"]} $way; ask 6 {SERVER["6"]} $way; done
"""
# The same for places whose /etc/resolv.conf is that of this machine.
ASK_APART = [
    "unshare",
    "-m",
    "sh",
    "-c",
    "mount -t tmpfs tmpfs /mnt && touch /mnt/r && mount --bind /mnt/r /etc/resolv.conf && " + ASK,
]


class Dns(lab.LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.second = host.Host(start=False)
        cls.addClassCleanup(cls.second.close)
        psk = cls.second.config + "/psk"
        fleet.pki("psk", psk)
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                "net0",
                "netns",
                str(cls.lab.leader),
                "type",
                "veth",
                "peer",
                "name",
                "net0",
                "netns",
                cls.second.netns,
            ],
            check=True,
        )
        for family, size in (("4", "24"), ("6", "64 nodad")):
            cls.lab.must(
                "ip addr add {}/{} dev net0 {}".format(SERVER[family], *(size + " ").split(" ", 1))
            )
            cls.second.ip(
                "addr add {}/{} dev net0 {}".format(SECOND[family], *(size + " ").split(" ", 1))
            )
        cls.lab.must("ip link set net0 up")
        cls.second.ip("link set net0 up")
        with open(psk, encoding="ascii") as file:
            cls.lab.write("etc/trireme/psk", file.read())
        os.chmod(cls.lab.root + "/etc/trireme/psk", 0o600)
        cls.lab.write("etc/trireme/identity.toml", IDENTITY.format(name="first"))
        cls.lab.must("trirectl reload")
        cls.second.write("identity.toml", IDENTITY.format(name="second"))
        cls.second.start()
        cls.lab.import_image(*images.dns_image())
        cls.lab.must("docker network create --ipv6 --subnet fd00:95::/64 six")

    def policy(self, text):
        self.lab.policy(text)
        self.second.explicit_reload(text)

    def container(self, labels, *options):
        made = self.lab.must(f"docker run -d -l {labels} {' '.join(options)}")
        self.lab.await_state(made, "enforced")
        return made

    def askers(self):
        """{name: a function that runs a command there}, and the commands."""
        bridged = {
            name: self.container(f"app={name}", "--network six", "dns sleep 600")
            for name in ("web", "other")
        }
        result = {
            "process": lambda: self.lab.run(ASK_APART),
            "process of the second host": lambda: self.second.run(ASK_APART),
        }
        for name in ("web", "other"):
            result[f"{name}: process"] = lambda name=name: self.lab.run(
                ["trirun", "--label", f"app={name}", "--", *ASK_APART]
            )
            result[f"{name}: container"] = lambda name=name: self.lab.run(
                ["docker", "exec", bridged[name], "sh", "-c", ASK]
            )
            result[f"{name}: process of the second host"] = lambda name=name: self.second.trirun(
                f"app={name}", ASK_APART
            )
        return result

    def answered(self, run):
        """The kinds of query that got the right answer."""
        done = run()
        printed = [
            line.split(" ")
            for line in done.stdout.splitlines()
            if line.split(" ")[0] in ("dig", "libc")
        ]
        self.assertEqual(len(printed), len(WAYS), done)
        return sorted(" ".join(words[:3]) for words in printed if words[3:] == [ADDRESS])

    def test_from_everywhere(self):
        labelled, everybody = RULE.format('"app=web"'), RULE.format(
            '["app=web", "@host", "@world"]'
        )
        self.policy(labelled)
        self.container(
            "app=dns",
            "--network host",
            "dns dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file",
            f"--address=/web.test/{ADDRESS}",
        )
        waiting.until(lambda: ":53 " in self.lab.must("ss -Hlnu sport = :53"), "dnsmasq listens")
        askers = self.askers()
        for policy, plain in ((labelled, []), (everybody, sorted(WAYS))):
            self.policy(policy)
            for name, run in askers.items():
                expected = (
                    sorted(WAYS)
                    if name.startswith("web")
                    else []
                    if name.startswith("other")
                    else plain
                )
                self.assertEqual(self.answered(run), expected, (name, policy))


if __name__ == "__main__":
    unittest.main()
