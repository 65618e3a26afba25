# SPDX-License-Identifier: Apache-2.0
"""Three booted machines: a client, and behind a router that masquerades and drops what conntrack
calls INVALID a server and a third machine; with a shared secret and with certificates."""

import json
import shutil
import subprocess
import unittest

from tests.system import agent, fleet, undo, waiting
from tests.system.lab import Lab, SeveralLabs

ADDRESSES = {
    "client": ("10.97.0.1", "fd00:97::1"),
    "server": ("10.98.0.2", "fd00:98::2"),
    "third": ("10.98.0.3", "fd00:98::3"),
}
GATEWAYS = {"10.97": ("10.97.0.254", "fd00:97::fe"), "10.98": ("10.98.0.254", "fd00:98::fe")}
# The server's addresses as seen by the client: through the masquerade, and through the DNAT of the
# router's near addresses.
ENDS = [(address, 8080) for address in ADDRESSES["server"]] + [
    (address, 8081) for address in GATEWAYS["10.97"]
]
NGINX = """pid /run/web.pid; error_log stderr crit; user root;
events { worker_connections 256; }
http { access_log off; client_body_temp_path /tmp; proxy_temp_path /tmp; fastcgi_temp_path /tmp; uwsgi_temp_path /tmp; scgi_temp_path /tmp;
server { listen 8080; listen [::]:8080 ipv6only=on; location / { return 200 "from nginx"; } } }
"""
IDENTITY = '[host]\nname = "{}"\npeers = ["10.97.0.0/24", "10.98.0.0/24", "fd00:97::/64", "fd00:98::/64"]\n'
IDENTITY += fleet.Fleet.TRANSLATED + "[trust]\n{}"
SECRET = 'psk_file = "/etc/trireme/psk"\n'
CERTIFICATE = 'certificate = "/etc/trireme/host.pem"\nkey = "/etc/trireme/host.key"\nca = ["/etc/trireme/ca.pem"]\n'


def url(address, port):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


class BootedFleet(SeveralLabs, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.undo = undo.Undo()
        cls.addClassCleanup(cls.undo.run)
        cls.router = fleet.Router(cls.undo)
        cls.labs = {}
        for name in ADDRESSES:
            cls.labs[name] = Lab(files=[("srv/nginx.conf", NGINX)], name=name)
            cls.addClassCleanup(cls.labs[name].close)
            shutil.copy(agent.__file__, cls.labs[name].root + "/srv/agent.py")
        cls.router.run("ip", "link", "add", "far0", "type", "bridge")
        cls.join("client", "near0")
        cls.router.attach("near0", "10.97.0.254/24", "fd00:97::fe/64")
        for name in ("server", "third"):
            cls.join(name, name)
            cls.router.run("ip", "link", "set", name, "master", "far0", "up")
        cls.router.attach("far0", "10.98.0.254/24", "fd00:98::fe/64")
        cls.labs["client"].start_docker()
        cls.credentials()
        for lab in cls.labs.values():
            lab.start_trireme()

    @classmethod
    def join(cls, name, port):
        lab, (four, six) = cls.labs[name], ADDRESSES[name]
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                "net0",
                "netns",
                str(lab.leader),
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                cls.router.netns,
            ],
            check=True,
        )
        near, near6 = GATEWAYS[four[:5]]
        lab.must(
            f"ip addr add {four}/24 dev net0 && ip addr add {six}/64 dev net0 nodad && ip link set net0 up && "
            f"ip route add default via {near} && ip route add default via {near6}"
        )

    @classmethod
    def credentials(cls):
        """Credentials of both kinds, created on the client and copied to the others as in
        README."""
        client = cls.labs["client"]
        client.must("cd /root && trirectl pki psk psk && trirectl pki init ca --name fleet")
        for name, lab in cls.labs.items():
            client.must(f"cd /root && trirectl pki issue ca --host {name} --out {name}")
            for file in ("psk", "ca/ca.pem", f"{name}/host.pem", f"{name}/host.key"):
                shutil.copy2(f"{client.root}/root/{file}", f"{lab.root}/etc/trireme/")

    def use(self, trust, described):
        for name, lab in self.labs.items():
            lab.write("etc/trireme/identity.toml", IDENTITY.format(name, trust))
            lab.must("trirectl reload")
            self.assertIn(described, lab.status()["tokens"]["credential"])

    def test_with_a_shared_secret(self):
        self.use(SECRET, "shared secret")
        self.everything()

    def test_with_certificates(self):
        self.use(CERTIFICATE, "by CN=fleet")
        self.everything()

    def unit(self, name, unit, labels, command):
        self.labs[name].must(
            f"trirun --label {labels} --unit {unit} -- {command} >/dev/null 2>&1 </dev/null"
        )
        self.addCleanup(self.labs[name].sh, f"systemctl stop {unit}.scope")

    def everything(self):
        self.unit("server", "web", "app=web", "nginx -c /srv/nginx.conf")
        self.unit("third", "web", "app=web", "nginx -c /srv/nginx.conf")
        self.http()
        self.containers()
        self.iperf3()
        self.long_lived()

    def get(self, name, labels, address, port=8080):
        wrapper = f"trirun --label {labels} -- " if labels else ""
        done = self.labs[name].sh(f"{wrapper}curl -sS --max-time 5 {url(address, port)}")
        return done.stdout or done.returncode

    def http(self):
        waiting.until(
            lambda: self.get("client", "app=web", *ENDS[0]) == "from nginx", "nginx answers", 20
        )
        for address, port in ENDS:
            self.assertEqual(
                self.get("client", "app=web", address, port), "from nginx", f"{address} {port}"
            )
            for labels in ("app=other", ""):
                self.assertEqual(
                    self.get("client", labels, address, port),
                    7,
                    f"{labels} to {address} {port}: refused at once",
                )
        for source, target in (("client", "third"), ("third", "server"), ("server", "third")):
            for address in ADDRESSES[target]:
                self.assertEqual(
                    self.get(source, "app=web", address),
                    "from nginx",
                    f"{source} to {target} {address}",
                )
                self.assertEqual(
                    self.get(source, "app=other", address), 7, f"{source} to {target} {address}"
                )

    def containers(self):
        """Containers on the client's Docker bridge, which adds another masquerade."""
        client, address = self.labs["client"], ADDRESSES["server"][0]
        for labels, expected in (("app=web", "from nginx"), ("app=other", ""), ("", "")):
            label = f"-l {labels}" if labels else ""
            done = client.sh(
                f"docker run --rm {label} curlimages/curl curl -sS --max-time 5 {url(address, 8080)}"
            )
            self.assertEqual(done.stdout, expected, f"{labels}: {done.returncode} {done.stderr}")

    def iperf3(self):
        self.unit("server", "speed", "app=web", "iperf3 -s -D")
        waiting.until(
            lambda: self.labs["server"].sh("ss -Hltn 'sport = :5201'").stdout, "iperf3 listens"
        )
        for address in ADDRESSES["server"]:
            out = self.labs["client"].must(
                f"trirun --label app=web -- iperf3 -c {address} -n 20M -P 2 --bidir -J"
            )
            self.assertGreater(json.loads(out)["end"]["sum_received"]["bytes"], 100_000)

    def long_lived(self):
        """A connection to redis continues while either daemon is restarted, and while it is killed
        and restarted by systemd."""
        client, server, address = self.labs["client"], self.labs["server"], ADDRESSES["server"][0]
        self.unit(
            "server",
            "store",
            "app=db",
            f"redis-server --port 6379 --bind {address} --save '' --protected-mode no --dir /srv --daemonize yes",
        )
        waiting.until(lambda: server.sh("ss -Hltn 'sport = :6379'").stdout, "redis listens")
        talker = agent.Agent(
            ["trirun", "--label", "app=db", "--"], spawn=client.popen, program="/srv/agent.py"
        )
        self.addCleanup(talker.end)
        talker.open("redis", "tcp", "0.0.0.0")
        self.assertEqual(talker.connect("redis", address, 6379), "ok")
        self.assertEqual(talker.ask("redis", "SET life long\r\n"), "+OK\r\n")
        for lab in (client, server):
            for command in (
                "systemctl restart trireme",
                "kill -9 $(systemctl show -P MainPID trireme)",
            ):
                before = lab.must("systemctl show -P MainPID trireme")
                lab.must(command)
                self.assertEqual(talker.ask("redis", "GET life\r\n"), "$4\r\nlong\r\n", command)
                waiting.until(
                    lambda lab=lab, before=before: lab.sh("trirectl status").returncode == 0
                    and lab.must("systemctl show -P MainPID trireme") != before,
                    "the daemon is back",
                )
        self.assertEqual(self.get("client", "app=other", address, 6379), 7)


if __name__ == "__main__":
    unittest.main()
