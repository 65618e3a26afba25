"""README, "A second host", followed to the letter on two machines that have just booted."""

import re
import shutil
import unittest

from tests.system import waiting
from tests.system.host import ROOT
from tests.system.lab import Lab

ADDRESSES = {"web-1": ("10.0.0.1/24", "fd00:a::1/64"), "db-1": ("10.0.0.2/24", "fd00:a::2/64")}
NAMES = "127.0.0.1 localhost\n10.0.0.1 web-1\n10.0.0.2 db-1\nfd00:a::2 db-1-six\n"


def section():
    with open(ROOT + "/README.md", encoding="utf-8") as file:
        return file.read().split("## A second host")[1].split("\n## ")[0]


def session(text):
    """(host, command, what it prints) for each prompt."""
    entries = []
    for line in text.splitlines():
        prompt = re.match(r"([a-z0-9-]+)\$ (.*)", line)
        if prompt:
            entries.append((prompt[1], prompt[2], []))
        else:
            entries[-1][2].append(line)
    return entries


def without_times(text):
    return re.sub(r"after \d+ ms", "after 0 ms", text)


class SecondHost(unittest.TestCase):
    def setUp(self):
        self.labs = {}
        for name in ADDRESSES:
            self.labs[name] = Lab(files=[("etc/hosts", NAMES)], name=name)
            self.addCleanup(self.labs[name].close)
        web, db = (self.labs[name] for name in ("web-1", "db-1"))
        web.link(db, *zip(ADDRESSES["web-1"], ADDRESSES["db-1"]))
        db.start_docker()

    def _callTestMethod(self, method):
        try:
            method()
        except BaseException:
            for lab in self.labs.values():
                lab.show()
            raise

    def test_to_the_letter(self):
        commands, settings, shown = re.findall(r"```\w*\n(.*?)```", section(), re.S)[:3]
        web = self.labs["web-1"]
        for lab in self.labs.values():
            lab.start_trireme()
        for line in commands.splitlines():
            web.must("cd /root && " + line)
        for name, lab in self.labs.items():
            for file in ("host.pem", "host.key", "ca.pem"):
                shutil.copy2(f"{web.root}/root/{name}/{file}", f"{lab.root}/etc/trireme/{file}")
            lab.write("etc/trireme/identity.toml", settings)
            waiting.until(lambda lab=lab, name=name: f"certificate of {name} by CN=fleet" in lab.status()["tokens"]["credential"],
                          "a save is enough")
        self.follow(shown)
        # The same by IPv6, and after a restart of both.
        db_six = "trirun --label app={} -- curl -sS --max-time 5 http://db-1-six"
        for _ in range(2):
            self.assertEqual(web.must(db_six.format("nginx")), "hello from nginx")
            self.assertNotEqual(web.sh(db_six.format("other")).returncode, 0)
            for lab in self.labs.values():
                lab.must("systemctl restart trireme")

    def follow(self, shown):
        entries = session(shown)
        self.assertEqual(sum(bool(printed) for _, _, printed in entries), 3)
        for name, command, printed in entries:
            quiet = command.replace("curl ", "curl -sS --max-time 5 ")  # no progress meter on a pipe
            if not printed:
                self.labs[name].must(command)
                continue

            def run(lab=self.labs[name], line=quiet):
                return without_times(lab.sh(line + " 2>&1").stdout.strip())
            waiting.until(lambda expected="\n".join(printed), run=run: run() == without_times(expected), f"{name}: {command}: {printed}", 15)


if __name__ == "__main__":
    unittest.main()
