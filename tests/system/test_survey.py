# SPDX-License-Identifier: Apache-2.0
"""`trirectl survey`: what uses the network and is no workload, and the lines that make it one."""

import json
import re
import tomllib
import unittest

from tests.system import waiting
from tests.system.lab import LabCase

SERVER = "[Service]\nExecStart=/usr/bin/busybox httpd -f -p {port} -h /srv\n"
# Keeps one connection to the server open, and reads nothing.
CLIENT = (
    "[Service]\nExecStart=/usr/bin/python3 -c 'import socket, time\\n"
    's = socket.create_connection(("127.0.0.1", 6001))\\n'
    "time.sleep(600)'\n"
)
COMPOSE = "-l com.docker.compose.project=shop -l com.docker.compose.service=db"


class Survey(LabCase):
    FILES = (
        ("etc/systemd/system/shop.service", SERVER.format(port=6001)),
        ("etc/systemd/system/client.service", CLIENT),
        ("etc/systemd/system/idle.service", "[Service]\nExecStart=/usr/bin/sleep 600\n"),
        ("etc/trireme/identity.toml", '[docker]\ncontainers = "labeled"\n'),
    )

    def setUp(self):
        super().setUp()
        self.addCleanup(self.lab.sh, "systemctl stop shop client idle; systemctl reset-failed")
        self.addCleanup(self.lab.sh, "trirectl reload")
        self.addCleanup(
            self.lab.write, "etc/trireme/identity.toml", '[docker]\ncontainers = "labeled"\n'
        )

    def survey(self):
        return json.loads(self.lab.must("trirectl survey --json"))

    def candidates(self):
        return {each["name"]: each for each in self.survey()["candidates"]}

    def test_units(self):
        self.lab.must("systemctl start shop idle")
        self.lab.await_served(6001)
        self.lab.must("systemctl start client")
        waiting.until(
            lambda: self.candidates().get("client.service", {}).get("connects") == 1,
            "the client is connected",
        )
        found = self.candidates()
        self.assertEqual(
            (found["shop.service"]["kind"], found["shop.service"]["listens"]),
            ("unit", ["tcp/6001"]),
        )
        self.assertNotIn("idle.service", found)
        self.assertNotIn("trireme.service", found)
        (flow,) = [each for each in self.survey()["denied"] if each["port"] == 6001]
        self.assertEqual(
            (flow["source"]["workload"], flow["destination"]["workload"], flow["count"]),
            ("client.service", "shop.service", 1),
        )
        text = self.lab.must("trirectl survey")
        self.assertIn("[[unit]]", text)
        self.assertRegex(
            text, r"1 +client.service \(app=client\) +shop.service \(app=shop\) +tcp/6001"
        )

    def test_the_lines_make_them_workloads_and_what_was_said_is_denied(self):
        self.lab.must("systemctl start shop")
        self.lab.await_served(6001)
        self.lab.must("systemctl start client")
        found = waiting.until(
            lambda: (lambda all: all if "client.service" in all else None)(self.candidates()),
            "both are found",
        )
        lines = "".join(found[name]["lines"] for name in ("shop.service", "client.service"))
        self.assertEqual(len(tomllib.loads(lines)["unit"]), 2)
        self.lab.write("etc/trireme/identity.toml", lines)
        self.lab.must("trirectl reload")
        waiting.until(
            lambda: {"shop.service", "client.service"}
            <= {each["name"] for each in self.lab.workloads() if each["state"] == "enforced"},
            "both are workloads",
        )
        found = self.candidates()
        self.assertNotIn("shop.service", found)
        self.assertNotIn("client.service", found)
        self.assertEqual(self.lab.ask(6001, "app=client"), "")
        self.lab.await_served(6001, "app=shop")

    def test_containers_and_compose_services(self):
        self.lab.must("docker run -d --name plain busybox httpd -f -p 7001 -h /srv")
        self.lab.must(f"docker run -d --name shop-db-1 {COMPOSE} busybox httpd -f -p 7002 -h /srv")
        self.lab.must("docker run -d --name known -l app=known busybox httpd -f -p 7003 -h /srv")
        found = waiting.until(
            lambda: (lambda all: all if {"plain", "shop/db"} <= set(all) else None)(
                self.candidates()
            ),
            "both are found",
            15,
        )
        self.assertEqual(found["plain"]["listens"], ["tcp/7001"])
        self.assertEqual(found["shop/db"]["labels"], {"app": "shop", "tier": "db"})
        self.assertIn("tier:", found["shop/db"]["lines"])
        self.assertNotIn("known", found, "it is a workload")
        self.assertTrue(any("label_from" in note for note in self.survey()["notes"]))
        # The line in use.
        options = re.search(r"docker run (.*) \.\.\.", found["plain"]["lines"])[1]
        self.lab.must("docker rm -f plain")
        self.lab.must(f"docker run -d --name plain {options} busybox httpd -f -p 7001 -h /srv")
        waiting.until(
            lambda: any(
                each["name"] == "plain" and each["state"] == "enforced"
                for each in self.lab.workloads()
            ),
            "it is a workload",
            15,
        )
        self.assertNotIn("plain", self.candidates())

    def test_without_containers(self):
        self.lab.write("etc/trireme/identity.toml", '[docker]\ncontainers = "none"\n')
        self.lab.must("trirectl reload")
        container = self.lab.must("docker run -d busybox httpd -f -p 7001 -h /srv")
        found = waiting.until(
            lambda: self.candidates().get(container[:12]), "it is found by its id", 15
        )
        self.assertEqual(found["listens"], ["tcp/7001"])
        self.assertTrue(any('containers = "labeled"' in note for note in self.survey()["notes"]))


if __name__ == "__main__":
    unittest.main()
