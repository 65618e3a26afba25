# SPDX-License-Identifier: Apache-2.0
"""Metrics: their format, the listener and its limits, a real Prometheus that scrapes it, and the
examples for operators."""

import json
import os
import re
import subprocess
import time
import unittest
import urllib.parse

from tests.system import certificates, waiting
from tests.system.host import ROOT, TRIRECTL, HostCase

EXAMPLES = ROOT + "/examples/monitoring"
LISTEN = '[metrics]\nlisten = "{}"\n'
PORT = 9464

# Clients that never finish: each sends a byte of a header from time to time. Prints how many the
# server has closed, and how long the first was open.
DRIBBLE = """
import select, socket, sys, time
began = time.monotonic()
clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(int(sys.argv[2]))]
for client in clients:
    client.sendall(b"GET /metrics HTTP/1.1\\r\\nX: ")
print("open", flush=True)
first = None
while clients and time.monotonic() < began + 30:
    for client in list(clients):
        try:
            client.send(b"x")
            ended = client in select.select([client], [], [], 0)[0] and client.recv(4096) == b""
        except OSError:
            ended = True
        if ended:
            first = first or time.monotonic() - began
            clients.remove(client)
    select.select(clients, [], [], 0.1)
print(len(clients), first, flush=True)
"""


class Metrics(HostCase):
    IDENTITY = LISTEN.format(f"127.0.0.1:{PORT}")

    def identity(self, text):
        self.host.write("identity.toml", text)
        self.host.must([TRIRECTL, "reload"])
        self.addCleanup(self.restore)

    def restore(self):
        self.host.write("identity.toml", self.IDENTITY)
        self.host.must([TRIRECTL, "reload"])

    def get(self, url=f"http://127.0.0.1:{PORT}/metrics", *options):
        return self.host.run(["curl", "-sS", "-g", "-m", "3", *options, url])

    def value(self, sample):
        text = self.host.must([TRIRECTL, "metrics"])
        found = re.search("^" + re.escape(sample) + r" (\S+)$", text, re.M)
        return None if found is None else float(found[1])

    def promtool(self, *arguments, **options):
        done = subprocess.run(
            ["promtool", *arguments],
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_the_format_is_prometheuss(self):
        served = self.get().stdout
        self.assertEqual(
            self.promtool("check", "metrics", input=served).strip(), "", "promtool lints"
        )
        self.assertEqual(
            {line.split()[0] for line in served.splitlines()} - {"#"},
            {line.split()[0] for line in self.host.must([TRIRECTL, "metrics"]).splitlines()}
            - {"#"},
        )

    def test_what_is_served_and_what_is_not(self):
        head = self.get("http://127.0.0.1:9464/metrics", "-I").stdout
        self.assertIn("200 OK", head)
        self.assertIn("text/plain; version=0.0.4", head)
        for path, options, status in (
            ("/", (), "404"),
            ("/metrics/../x", ("--path-as-is",), "404"),
            ("/metrics", ("-d", "a=b"), "405"),
            ("/metrics", ("-X", "DELETE"), "405"),
        ):
            answer = self.get(f"http://127.0.0.1:{PORT}{path}", "-i", *options).stdout
            self.assertIn(f" {status} ", answer.splitlines()[0], path)

    def test_digests_are_those_of_status(self):
        page = self.get("http://127.0.0.1:9464/metrics").stdout
        status = self.host.status()["policy"]
        self.assertIn(f'trireme_policy_info{{digest="{status["digest"]}"}} 1', page)
        self.assertIn(f'trireme_identity_info{{digest="{status["identity_digest"]}"}} 1', page)
        self.assertNotEqual(status["digest"], status["identity_digest"])

    def test_refusals_are_counted_by_reason(self):
        sample = 'trireme_flows_total{verdict="deny",reason="no_rule"}'
        before = self.value(sample)
        web = self.host.labelled("app=web")
        self.assert_refused(
            self.host.plain().exchange("tcp", "127.0.0.1", web.serve("tcp", "127.0.0.1"))
        )
        waiting.until(lambda: self.value(sample) > before, "the refusal is counted")
        # Workloads of other tests may still be ending.
        waiting.until(
            lambda: self.value('trireme_workloads{state="enforced"}')
            == sum(workload["state"] == "enforced" for workload in self.host.workloads()),
            "as many as are listed",
        )

    def test_a_reload_moves_and_ends_it(self):
        self.identity(LISTEN.format("[::1]:9465"))
        self.assertNotEqual(self.get().returncode, 0)
        self.assertIn("trireme_build_info", self.get("http://[::1]:9465/metrics").stdout)
        self.identity("")
        self.assertNotEqual(self.get("http://[::1]:9465/metrics").returncode, 0)
        self.assertEqual(self.host.status()["problems"], [])

    def test_beyond_this_host_only_with_a_warning(self):
        self.assertEqual(self.host.status()["policy"]["warnings"], [])
        self.identity(LISTEN.format(f"0.0.0.0:{PORT}"))
        warning = self.host.status()["policy"]["warnings"][0]
        self.assertIn("identity.toml:2:10: warning: metrics are readable from other hosts", warning)
        self.assertIn("trireme_build_info", self.get("http://10.99.0.1:9464/metrics").stdout)

    def test_an_address_that_is_taken_is_a_problem_and_nothing_worse(self):
        other = self.host.plain()
        port = other.serve("tcp", "127.0.0.1")
        self.identity(LISTEN.format(f"127.0.0.1:{port}"))
        self.assertIn(f"cannot listen on 127.0.0.1:{port}", self.host.status()["problems"][0])
        self.assertEqual(self.value("trireme_problems"), 1)
        self.host.kill_agents()
        waiting.until(lambda: not self.host.status()["problems"], "it retries", 10, 0.1)
        self.assertIn("trireme_build_info", self.get(f"http://127.0.0.1:{port}/metrics").stdout)

    def test_clients_that_never_finish_hold_up_nobody(self):
        with self.host.popen(
            ["/usr/bin/python3", "-c", DRIBBLE, str(PORT), "12"], stdout=subprocess.PIPE, text=True
        ) as dribble:
            self.assertEqual(dribble.stdout.readline(), "open\n")
            began = time.monotonic()
            self.assertEqual(self.host.trirun("app=x", ["true"]).returncode, 0)
            self.assertLess(
                time.monotonic() - began, 1 * waiting.PATIENCE, "the main loop continues"
            )
            left, first = dribble.stdout.readline().split()
        self.assertEqual(left, "0", "each client is disconnected")
        self.assertLess(float(first), 8 * waiting.PATIENCE)
        waiting.until(lambda: self.get().returncode == 0, "scrapes still work")

    def test_a_prometheus_scrapes_it(self):
        config = self.host.undo.directory + "/prometheus"
        os.makedirs(config, exist_ok=True)
        with open(EXAMPLES + "/prometheus.yml", encoding="utf-8") as example:
            text = example.read().replace(
                "scrape_interval: 15s", "scrape_interval: 200ms\n  evaluation_interval: 200ms"
            )
        with open(config + "/prometheus.yml", "w", encoding="utf-8") as file:
            file.write(text.replace("alerts.yml", EXAMPLES + "/alerts.yml"))
        with open(config + "/log", "w", encoding="utf-8") as log:
            server = self.host.popen(
                [
                    "prometheus",
                    f"--config.file={config}/prometheus.yml",
                    f"--storage.tsdb.path={config}/data",
                    "--web.listen-address=127.0.0.1:9090",
                ],
                stdout=log,
                stderr=log,
            )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def api(path, **parameters):
            answer = self.get(
                f"http://127.0.0.1:9090/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            )
            return (
                json.loads(answer.stdout)
                if answer.returncode == 0 and answer.stdout.startswith("{")
                else {"status": "none"}
            )

        def result(expression):
            answer = api("query", query=expression)
            return answer["data"]["result"] if answer["status"] == "success" else []

        waiting.until(lambda: result('up{job="trireme"} == 1'), "it is scraped", 30, 0.1)
        self.host.write("policy.toml", "[[allow]]\nform = 1\n")
        self.addCleanup(self.host.explicit_reload, "")
        waiting.until(
            lambda: result('ALERTS{alertname="TriremePolicyNotValid"}'),
            "the alert is pending or firing",
            10,
            0.1,
        )
        groups = api("rules")["data"]["groups"]
        self.assertEqual(
            [rule["name"] for rule in groups[0]["rules"] if rule["health"] == "err"], []
        )
        # The query of each panel is valid, and uses only metrics that exist.
        known = set(api("label/__name__/values")["data"])
        with open(EXAMPLES + "/grafana-dashboard.json", encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        optional = {"trireme_certificate_expiry_timestamp_seconds"}  # only with a certificate
        for panel in panels:
            for target in panel["targets"]:
                expression = target["expr"].replace("$instance", ".*")
                self.assertEqual(api("query", query=expression)["status"], "success", expression)
                self.assertLessEqual(
                    set(re.findall(r"\b(?:trireme|process)_\w+", expression)) - optional,
                    known,
                    panel["title"],
                )
        with open(EXAMPLES + "/alerts.yml", encoding="utf-8") as file:
            self.assertLessEqual(set(re.findall(r"\btrireme_\w+", file.read())) - optional, known)

    # Of interest only to those who look for the cause of something.
    DETAILS = {
        "process_start_time_seconds",
        "trireme_hellos_total",
        "trireme_identity_info",
        "trireme_largest_holder",
        "trireme_policy_loaded_timestamp_seconds",
        "trireme_policy_rules",
        "trireme_proofs_lost_total",
        "trireme_replies_total",
    }

    def test_the_examples_show_every_metric(self):
        page = self.host.must([TRIRECTL, "metrics"])
        exported = set(re.findall(r"^# TYPE (\w+) ", page, re.M))
        shown = set()
        for name in ("grafana-dashboard.json", "alerts.yml"):
            with open(f"{EXAMPLES}/{name}", encoding="utf-8") as file:
                shown |= set(re.findall(r"\b(?:trireme|process)_\w+", file.read()))
        self.assertEqual(exported - shown, self.DETAILS)

    def test_the_alerts_do_what_they_say(self):
        self.promtool("check", "rules", "alerts.yml")
        self.promtool("check", "config", "prometheus.yml")
        self.promtool("test", "rules", "alerts_test.yml")


class Certificate(HostCase):
    """Expiry of this host's own certificate, and the warning before it."""

    def issue(self, name):
        if not os.path.exists(self.host.undo.directory + "/ca"):
            self.pki("init", "ca", "--name", "fleet")
            certificates.age(
                self.host.undo.directory + "/ca", "fleet", "20200101000000Z", "20400101000000Z"
            )
        self.pki("issue", "ca", "--host", "web-1", "--out", name)
        return f"{self.host.undo.directory}/{name}"

    def pki(self, *arguments):
        subprocess.run(
            [TRIRECTL, "pki", *arguments],
            cwd=self.host.undo.directory,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def use(self, out):
        self.host.write(
            "identity.toml",
            f'[trust]\ncertificate = "{out}/host.pem"\nkey = "{out}/host.key"\nca = ["{out}/ca.pem"]\n',
        )
        self.host.must([TRIRECTL, "reload"])

    def without(self):
        self.host.write("identity.toml", "")
        self.host.must([TRIRECTL, "reload"])

    def expiry(self):
        found = re.search(
            r"^trireme_certificate_expiry_timestamp_seconds (\d+)$",
            self.host.must([TRIRECTL, "metrics"]),
            re.M,
        )
        return found and int(found[1])

    def test_when_it_expires(self):
        self.addCleanup(self.without)
        self.assertIsNone(self.expiry())
        out = self.issue("out")
        self.use(out)
        end = (
            subprocess.run(
                [
                    "openssl",
                    "x509",
                    "-enddate",
                    "-noout",
                    "-dateopt",
                    "iso_8601",
                    "-in",
                    out + "/host.pem",
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            .stdout.strip()
            .removeprefix("notAfter=")
        )
        self.assertEqual(time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.expiry())), end)
        self.assertEqual(self.host.status()["problems"], [])

    def test_that_it_expires_soon(self):
        """Reported by check, status, journal and metrics, until a new certificate is saved."""
        self.addCleanup(self.without)
        out = self.issue("soon")
        day, now = 86400, time.time()
        for age, left, soon in (
            (335, 31, False),
            (335, 29, True),
            (6, 4, False),
            (7, 3, True),
        ):  # 30 days before, or after two thirds of its life
            with self.subTest(f"{age} days old, {left} left"):
                start, end = (
                    time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now + days * day))
                    for days in (-age, left)
                )
                certificates.issue(self.host.undo.directory + "/ca", out, "web-1", start, end)
                before = len(self.host.log_text())
                self.use(out)
                warning = f"the certificate of web-1 by CN=fleet, until {time.strftime('%Y-%m-%d', time.gmtime(now + left * day))}, expires soon"
                check = self.host.trirectl("policy", "check", self.host.config, "--json").stdout
                for text in (
                    json.dumps(self.host.status()["problems"]),
                    self.host.log_text()[before:],
                    check,
                ):
                    (self.assertIn if soon else self.assertNotIn)(warning, text)
                self.assertEqual(self.expiry(), int(now + left * day))
                self.assertIn(
                    f"trireme_problems {int(soon)}\n", self.host.must([TRIRECTL, "metrics"])
                )
        self.use(self.issue("fresh"))
        self.assertEqual(self.host.status()["problems"], [])
        self.assertIn("trireme_problems 0\n", self.host.must([TRIRECTL, "metrics"]))


if __name__ == "__main__":
    unittest.main()
