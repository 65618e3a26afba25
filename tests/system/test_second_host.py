# SPDX-License-Identifier: Apache-2.0
"""Follows README, "A second host", on two freshly booted machines."""

import shutil
import unittest

from tests.system import documents, waiting
from tests.system.lab import Lab, SeveralLabs

ADDRESSES = {"web-1": ("10.0.0.1/24", "fd00:a::1/64"), "db-1": ("10.0.0.2/24", "fd00:a::2/64")}
NAMES = "127.0.0.1 localhost\n10.0.0.1 web-1\n10.0.0.2 db-1\nfd00:a::2 db-1-six\n"


class SecondHost(SeveralLabs, unittest.TestCase):
    def setUp(self):
        self.labs = {}
        for name in ADDRESSES:
            self.labs[name] = Lab(files=[("etc/hosts", NAMES)], name=name)
            self.addCleanup(self.labs[name].close)
        web, db = (self.labs[name] for name in ("web-1", "db-1"))
        web.link(db, *zip(ADDRESSES["web-1"], ADDRESSES["db-1"]))
        db.start_docker()

    def test_to_the_letter(self):
        section = documents.document("README.md").split("## A second host")[1]
        commands, settings, shown = [
            block
            for block in documents.blocks()
            if block.page == "README.md" and block.text in section
        ][:3]
        web = self.labs["web-1"]
        for lab in self.labs.values():
            lab.start_trireme()
        for _, line, _ in commands.commands():
            web.must("cd /root && " + line)
        for name, lab in self.labs.items():
            for file in ("host.pem", "host.key", "ca.pem"):
                shutil.copy2(f"{web.root}/root/{name}/{file}", f"{lab.root}/etc/trireme/{file}")
            lab.write("etc/trireme/identity.toml", settings.text)
            waiting.until(
                lambda lab=lab, name=name: f"certificate of {name} by CN=fleet"
                in lab.status()["tokens"]["credential"],
                "the saved identity is in force",
            )
        self.follow(shown)
        # The same over IPv6, and after both daemons have restarted.
        db_six = "trirun --label app={} -- curl -sS --max-time 5 http://db-1-six"
        for _ in range(2):
            self.assertEqual(web.must(db_six.format("nginx")), "hello from nginx")
            self.assertNotEqual(web.sh(db_six.format("other")).returncode, 0)
            for lab in self.labs.values():
                lab.must("systemctl restart trireme")

        self.containers_of_both_directions()

    def containers_of_both_directions(self):
        """Each host has its own published ports and masquerades, and [host] nat need not mention
        them."""
        web, db = (self.labs[name] for name in ("web-1", "db-1"))
        web.must(
            "trirun --label app=shop --unit shop -- python3 -m http.server 8000"
            " >/dev/null 2>&1 </dev/null &"
        )
        for proxy in ("true", "false"):
            db.write("etc/docker/daemon.json", f'{{"userland-proxy": {proxy}}}')
            db.must("systemctl restart docker", 120)
            container = db.must("docker run -d -p 8080:80 -l app=shop nginx")
            db.await_state(container, "enforced")

            def fetch(label):
                return web.sh(
                    f"trirun --label app={label} -- curl -sS --max-time 5 http://10.0.0.2:8080"
                ).stdout.strip()

            waiting.until(
                lambda fetch=fetch: fetch("shop") == "hello from nginx",
                f"a published port, userland-proxy {proxy}",
                20,
            )
            self.assertNotEqual(fetch("other"), "hello from nginx")
            get = "curlimages/curl curl -sS -o /dev/null -w '%{http_code}' --max-time 5"
            for label, code in (("shop", "200"), ("other", "000")):
                done = db.sh(f"docker run --rm -l app={label} {get} http://10.0.0.1:8000")
                self.assertEqual(done.stdout.strip(), code, f"from a container, {label}")
            db.must(f"docker rm -f {container}")

    def follow(self, shown):
        self.assertEqual(shown.how, "run: two labs")
        entries = shown.commands()
        self.assertEqual(sum(bool(printed) for _, _, printed in entries), 3)
        for name, command, printed in entries:
            # The lab is root's and has no sudo. curl shows no progress meter on a pipe.
            quiet = command.removeprefix("sudo ").replace("curl ", "curl -sS --max-time 5 ")
            if not printed:
                self.labs[name].must(command)
                continue

            def run(lab=self.labs[name], line=quiet):
                return documents.normalized(lab.sh(line + " 2>&1").stdout)

            waiting.until(
                lambda expected="\n".join(printed), run=run: run()
                == documents.normalized(expected),
                f"{name}: {command}: {printed}",
                15,
            )


if __name__ == "__main__":
    unittest.main()
