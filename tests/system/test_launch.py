# SPDX-License-Identifier: Apache-2.0
"""trirun changes nothing else for users with a grant, and exits with 125 for others."""

import json
import os
import pty
import signal
import socket
import subprocess
import unittest

from tests.system import waiting
from tests.system.host import LONG, TRIRECTL, TRIRUN, Host, HostCase

NOBODY = 65534
GRANTED = 12345  # has a [[launch]] grant by uid


class Transparent(HostCase):
    def test_exit_codes(self):
        for command, code in (
            (["true"], 0),
            (["sh", "-c", "exit 42"], 42),
            (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
            (["/nonexistent"], 127),
            (["/etc/passwd"], 126),
            (["/tmp"], 126),
        ):
            self.assertEqual(self.host.trirun("app=web", command).returncode, code, command)

    def test_wrong_usage(self):
        for arguments in (
            [],
            ["--label", "app=web"],
            ["--", "true"],
            ["--label", "=x", "--", "true"],
            ["--label", "app", "--", "true"],
            ["--label", "a=1", "--label", "a=2", "--", "true"],
            ["--nonsense", "--", "true"],
            ["--lab", "app=web", "--", "true"],
            ["--label=", "--", "true"],
            ["--label", "app=web", "--uid=", "root", "true"],
            ["--label", "app=web", "-p", "Nonsense", "--", "true"],
            ["--label", "app=web", "-p", "No=1", "--", "true"],
            ["--label", "app=web", "--unit", "a/b", "--", "true"],
            ["--label", "app=web", "--uid", "nosuchuser", "--", "true"],
        ):
            done = self.host.run([TRIRUN, *arguments])
            self.assertEqual(done.returncode, 125, arguments)
            self.assertRegex(done.stderr, r"^trirun: .", arguments)

    def test_the_command_may_look_like_options(self):
        """Nothing behind the first word that is no option, or behind "--", is trirun's."""
        shown = ["-l", "x", "--", "--help", "[a,b]", "{}", "--uid=root", ""]
        for between in ([], ["--"]):
            done = self.host.run([TRIRUN, "-l", "app=web", *between, "printf", "%s\\n", *shown])
            self.assertEqual((done.returncode, done.stdout.splitlines()), (0, shown), done.stderr)

    def test_streams_arguments_environment_and_directory(self):
        command = ["sh", "-c", 'cat; echo "$1" "$NAME" "$PWD" >&2', "sh", "a  b"]
        with self.host.popen(
            [TRIRUN, "--label", "app=web", "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/usr",
        ) as process:
            out, err = process.communicate("in")
        self.assertEqual((out, err.split("\n")[0]), ("in", "a  b  /usr"))
        host_environment = self.host.environment
        self.addCleanup(setattr, self.host, "environment", host_environment)
        self.host.environment = {"NAME": "value"}
        self.assertEqual(
            self.host.trirun("app=web", ["sh", "-c", 'echo "$NAME"']).stdout, "value\n"
        )

    def test_the_terminal_is_the_commands(self):
        main, inner = pty.openpty()
        try:
            with self.host.popen(
                [TRIRUN, "--label", "app=web", "--", "tty"],
                stdin=inner,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                self.assertEqual(process.communicate(timeout=10)[0].strip(), os.ttyname(inner))
        finally:
            os.close(main)
            os.close(inner)

    def test_signals_reach_the_command(self):
        with self.host.popen(
            [
                TRIRUN,
                "--label",
                "app=web",
                "--",
                "sh",
                "-c",
                "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done",
            ],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            self.assertEqual(process.stdout.readline(), "ready\n")
            process.send_signal(signal.SIGUSR1)
            self.assertEqual(process.wait(10), 7)

    def test_the_pid_stays(self):
        """trirun uses exec and starts no child, so supervisors keep the process that they
        started."""
        agent = self.host.labelled("app=web")
        self.assertEqual(agent.run(["sh", "-c", "echo $PPID"])["out"].strip(), str(agent.pid))

    def test_unit_names_and_descriptions(self):
        agent = self.host.labelled("app=web", "--unit", "shop", "-p", "Description=the shop")
        self.assertEqual(agent.cgroup(), f"{self.host.slice}/shop.scope")
        taken = self.host.trirun("app=web", ["true"], "--unit", "shop")
        self.assertEqual(taken.returncode, 125)
        self.assertIn("shop.scope", taken.stderr)
        container = self.host.trirun("app=web", ["true"], "--unit", "docker-" + "a" * 64)
        self.assertEqual(container.returncode, 125, "the name would look like that of a container")
        self.assertIn("container's name", container.stderr)

    def test_uid_and_gid(self):
        done = self.host.trirun("app=web", ["id", "-u"], "--uid", "nobody")
        self.assertEqual(done.stdout.strip(), str(NOBODY))
        for options in (["--uid", "nobody", "--gid", "12"], ["--gid", "12"]):
            mine = ["setpriv", "--groups=4,24", TRIRUN, "--label", "app=web", *options]
            done = self.host.run([*mine, "--", "id", "-G"])
            self.assertEqual((done.stdout.split(), done.returncode), (["12"], 0), done.stderr)

    def test_labels_on_the_cgroup(self):
        agent = self.host.labelled("app=web,env=dev")
        (mine,) = self.host.workloads()
        self.assertEqual(
            (mine["labels"], mine["state"], mine["kind"]),
            ({"app": "web", "env": "dev"}, "enforced", "process"),
        )
        shown = self.host.must(
            ["getfattr", "-n", "trusted.trireme.labels", self.host.cgroups + agent.cgroup()]
        )
        self.assertIn("trusted.trireme.labels", shown)


class Grants(HostCase):
    IDENTITY = f'[[launch]]\nuser = "{GRANTED}"\nlabels = ["app=web*", "env=dev"]\n'

    def launch(self, uid, *arguments, command=("cat", "/proc/self/cgroup")):
        return self.host.run(
            [
                "setpriv",
                f"--reuid={uid}",
                f"--regid={uid}",
                "--clear-groups",
                TRIRUN,
                *arguments,
                "--",
                *command,
            ]
        )

    def test_with_and_without_a_grant(self):
        done = self.launch(GRANTED, "--label", "app=web-1", "--label", "env=dev")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, rf"0::{self.host.slice}/uid-{GRANTED}-trirun-[^/]*\.scope\n")
        for uid, labels in (
            (NOBODY, ["app=web"]),
            (GRANTED, ["app=db"]),
            (GRANTED, ["app=web", "env=prod"]),
            (GRANTED, ["app=web", "x=y"]),
        ):
            done = self.launch(uid, *(word for label in labels for word in ("--label", label)))
            self.assertEqual((done.returncode, done.stdout), (125, ""), labels)

    def test_hostile_options(self):
        for options in (
            ["-p", "Slice=system.slice"],
            ["--slice", "system.slice"],
            ["--slice", "-.slice"],
            ["-p", "User=root"],
            ["-p", "ExecStartPre=/bin/true"],
            ["-p", "Delegate=yes"],
            ["-p", "PIDs=1"],
            ["-p", "Description=x", "-p", "Slice=/"],
            ["--uid", "0"],
            ["--gid", "0"],
            ["--unit", "../../system.slice/x"],
            ["--unit", "x/../../y"],
            ["--unit", "a\nb"],
            ["--unit", "."],
            ["--unit", ".."],
        ):
            done = self.launch(GRANTED, "--label", "app=web", *options)
            if done.returncode == 0:
                # The name is harmless once it has a prefix.
                self.assertRegex(
                    done.stdout, rf"0::{self.host.slice}/uid-{GRANTED}-[^/]*\.scope\n", options
                )
                self.assertIn("--unit", options)
            else:
                self.assertEqual((done.returncode, done.stdout), (125, ""), options)

    def test_properties_of_root(self):
        """Refused, although systemd or the cgroup driver would accept them."""
        for name, value in (("Slice", "trireme-batch.slice"), ("IPAddressAllow", "any")):
            done = self.launch(GRANTED, "--label", "app=web", "-p", f"{name}={value}")
            self.assertEqual((done.returncode, done.stdout), (125, ""), name)
            self.assertIn(f"only root may set the property '{name}'", done.stderr)

    def test_a_name_is_the_users_own(self):
        done = self.launch(GRANTED, "--label", "app=web", "--unit", "sshd")
        self.assertIn(f"{self.host.slice}/uid-{GRANTED}-sshd.scope", done.stdout, done.stderr)

    def test_a_workload_cannot_shed_its_labels(self):
        """From inside app=db, a user with a grant cannot become app=web."""
        inner = [
            "setpriv",
            f"--reuid={GRANTED}",
            f"--regid={GRANTED}",
            "--clear-groups",
            TRIRUN,
            "--label",
            "app=web",
            "--",
            "true",
        ]
        self.assertEqual(self.host.trirun("app=db", inner).returncode, 125)
        self.assertEqual(self.host.trirun("app=web", inner).returncode, 0)

    def test_only_root_asks_for_more(self):
        for command in (["status"], ["workloads"], ["reload"], ["flows"]):
            done = self.host.run(
                [
                    "setpriv",
                    f"--reuid={GRANTED}",
                    f"--regid={GRANTED}",
                    "--clear-groups",
                    TRIRECTL,
                    *command,
                ]
            )
            self.assertEqual(done.returncode, 1, command)
            self.assertEqual(done.stdout, "", command)

    def test_hostile_requests_end_nothing(self):
        """A line that is nested deeply enough to overflow a stack, and a property that would add a
        line to a unit file and to the log."""
        deep = '{"method":"launch","params":{"labels":' + "[" * 64_000 + "]" * 64_000 + "}}"
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(10)
            caller.connect(self.host.runtime + "/trireme.sock")
            caller.sendall(deep.encode() + b"\n")
            answer = json.loads(caller.makefile().readline())
        self.assertIn("nested", answer["error"]["message"])
        done = self.launch(GRANTED, "--label", "app=web", "-p", "Description=a\n[Unit]\nforged")
        self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
        self.assertNotRegex(self.host.log_text(), r"(?m)^forged")
        self.assertIsNone(self.host.daemon.poll())
        self.assertEqual(self.launch(GRANTED, "--label", "app=web").returncode, 0)


class Elsewhere(HostCase):
    def test_another_network_namespace_is_refused(self):
        other = Host(start=False)
        self.addCleanup(other.close)
        mark = self.host.undo.directory + "/ran"
        other.environment = {"TRIREME_RUNTIME_DIR": self.host.runtime}
        done = other.trirun("app=web", ["touch", mark])
        self.assertEqual(done.returncode, 125)
        self.assertIn("another network namespace", done.stderr)
        self.assertFalse(os.path.exists(mark))
        self.assertEqual(self.host.workloads(), [])


class Many(HostCase):
    def test_at_once(self):
        """Concurrent launches: each is a workload before its first instruction, and all of them
        end."""
        count = 500 if LONG else 50
        server, plain = self.host.labelled("app=web"), self.host.plain()
        port, closed = server.serve("tcp", "127.0.0.1"), plain.serve("tcp", "127.0.0.1")
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port} || exit 1; (exec 4<>/dev/tcp/127.0.0.1/{closed}) 2>/dev/null && exit 2; exit 0"
        processes = [
            self.host.popen([TRIRUN, "--label", "app=web", "--", "bash", "-c", script])
            for _ in range(count)
        ]
        self.assertEqual([process.wait(120) for process in processes], [0] * count)
        waiting.until(lambda: len(self.host.workloads()) == 1, "only the server is left", 20)
        self.assertEqual(plain.served("tcp", closed)["accepted"], 0)
        self.assertEqual(self.host.status()["problems"], [])


class Scale(HostCase):
    """Thousands of cgroups, each with its own labels; the last one is enforced like the first."""

    def test_many_workloads(self):
        count = 10_000 if LONG else 500
        directory = self.host.undo.directory
        fifo = directory + "/end"
        os.mkfifo(fifo)
        # Each keeps the FIFO open for reading and ends when the writer does. At most 450 start
        # concurrently.
        launch = (
            f'for n in $(seq "$1" "$2"); do {TRIRUN} --label app=w$n --unit w$n -- sh -c "read x" <"$3" & '
            '[ $((n % 50)) = 0 ] && read -r go; done; wait'
        )
        writer = os.open(fifo, os.O_RDWR)
        try:
            process = self.host.popen(
                ["sh", "-c", launch, "sh", "1", str(count), fifo],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
            for made in range(50, count + 1, 50):
                if made > 400:
                    before = f"{self.host.cgroups}{self.host.slice}/w{made - 400}.scope"
                    waiting.until(lambda path=before: os.path.isdir(path), before, 60)
                process.stdin.write("\n")
                process.stdin.flush()
            waiting.until(
                lambda: len(self.host.workloads()) == count,
                f"{count} workloads",
                900 if LONG else 120,
                0.2,
            )
            first, last = self.host.labelled("app=w1"), self.host.labelled(f"app=w{count}")
            port = first.serve("tcp", "127.0.0.1")
            self.assert_allowed(first.exchange("tcp", "127.0.0.1", port))
            self.assert_refused(last.exchange("tcp", "127.0.0.1", port))
            self.assertEqual(self.host.run(["nft", "list", "ruleset"], timeout=120).returncode, 0)
            self.host.explicit_reload('[[allow]]\nfrom = "app=w*"\nto = "app=w1"\n')
            self.assert_allowed(last.exchange("tcp", "127.0.0.1", port))
            self.host.restart()
            self.assertEqual(len(self.host.workloads()), count + 2)
            self.assert_allowed(last.exchange("tcp", "127.0.0.1", port))
        finally:
            os.close(writer)
        process.wait(300)
        self.host.kill_agents()
        waiting.until(lambda: not self.host.workloads(), "all are gone", 300, 0.2)


if __name__ == "__main__":
    unittest.main()
