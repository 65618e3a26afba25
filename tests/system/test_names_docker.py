# SPDX-License-Identifier: Apache-2.0
"""Networks by DNS name in bridge containers: name servers asked directly, and through Docker's
resolver in the container."""

import unittest

from tests.system import nameserver
from tests.system.host import kill_quietly
from tests.system.lab import LabCase

FAR = "10.97.8.1"
POLICY = (
    '[[network]]\nname = "mirror"\nnames = ["deb.example.org"]\n'
    '[[network]]\nname = "dns"\ncidrs = ["{gate}"]\n'
    '[[allow]]\nfrom = "app=web"\nto = "@dns"\nports = ["udp/53", "tcp/53"]\n'
    '[[allow]]\nfrom = "app=web"\nto = "@mirror"\nports = ["tcp/8080"]\n'
)


class Containers(LabCase):
    def test_by_dockers_resolver_and_without_it(self):
        self.lab.must(f"ip addr add {FAR}/32 dev lo && busybox httpd -p {FAR}:8080 -h /srv")
        self.lab.must("docker network create names")
        self.addCleanup(self.lab.sh, "docker network rm names")
        self.addCleanup(self.lab.policy, "")
        for network in ("names", "bridge"):
            gate = (
                self.lab.must(
                    f"docker network inspect -f '{{{{(index .IPAM.Config 0).Gateway}}}}' {network}"
                )
                or "172.17.0.1"
            )
            zone = {
                name: {"answers": [[None, "A", FAR, 5]]}
                for name in ("deb.example.org", "x.example.org")
            }
            self.addCleanup(kill_quietly, nameserver.start(self.lab.popen, [gate], zone))
            self.lab.policy(POLICY.format(gate=gate))
            container = self.lab.must(
                f"docker run -d --network {network} --dns {gate} -l app=web busybox sleep 600"
            )
            self.lab.await_state(container, "enforced")

            def fetch(host):
                return self.lab.sh(
                    f"docker exec {container} timeout 5 wget -qO- http://{host}:8080/served"
                ).stdout.strip()

            self.assertEqual(fetch(FAR), "", f"{network}: not asked for yet")
            self.assertEqual(fetch("x.example.org"), "", f"{network}: a name of no network")
            self.assertEqual(fetch("deb.example.org"), "served", network)
            self.assertEqual(fetch(FAR), "served", f"{network}: its address")
            if network == "names":
                self.assertIn(
                    "127.0.0.11", self.lab.must(f"docker exec {container} cat /etc/resolv.conf")
                )


if __name__ == "__main__":
    unittest.main()
