"""A name server on the host's network, asked from containers on the bridge."""

import unittest

from tests.system import waiting
from tests.system.lab import LabCase

DNSMASQ = ("dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --port=53 --user=root --pid-file --bind-interfaces"
           " --address=/web.test/192.0.2.7 --listen-address=172.17.0.1,127.0.0.1")


class Dns(LabCase):
    def test_from_a_bridge_container(self):
        lab = self.lab
        lab.must("ip addr show docker0")
        with lab.popen(["sh", "-c", f"exec trirun --label app=dns -- {DNSMASQ}"]) as server:
            self.addCleanup(server.kill)
            try:
                asked = {}
                for name in ("dns", "other"):
                    asked[name] = lab.must(f"docker run -l app={name} -d nginx")
                    lab.await_state(asked[name], "enforced")

                def ask(name):
                    return lab.sh(f"docker exec {asked[name]} busybox nslookup web.test 172.17.0.1").stdout

                waiting.until(lambda: "192.0.2.7" in ask("dns"), "the container has its answer", 15)
                for _ in range(3):
                    self.assertIn("192.0.2.7", ask("dns"))
                    self.assertNotIn("192.0.2.7", ask("other"))
                self.assertIn("192.0.2.7", lab.sh("trirun --label app=dns -- dig +short @127.0.0.1 web.test").stdout)
                self.assertNotIn("192.0.2.7", lab.sh("dig +short +tries=1 +time=1 @127.0.0.1 web.test").stdout)
            finally:
                server.kill()


if __name__ == "__main__":
    unittest.main()
