# SPDX-License-Identifier: Apache-2.0
"""A host: a network namespace with a triremed of its own, its directories, and processes in it,
with and without labels."""

import json
import os
import signal
import subprocess
import time
import unittest

from tests.system import agent, undo, waiting

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRODUCTS = os.environ.get("TRIREME_PRODUCTS", ROOT + "/build/release")
LONG = os.environ.get("TRIREME_LONG") == "1"

TRIREMED = PRODUCTS + "/src/daemon/triremed"
TRIRUN = PRODUCTS + "/src/cli/trirun"
TRIRECTL = PRODUCTS + "/src/cli/trirectl"

# An address of the host other than those of lo, in each family.
LOCAL4 = "10.99.0.1"
LOCAL6 = "fd00:99::1"
LOCALS = ("127.0.0.1", "::1", LOCAL4, LOCAL6)


def cgroup_mount():
    """Where cgroup v2 is mounted, alone or in hybrid mode."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            left, right = line.split(" - ")
            if right.startswith("cgroup2 ") and left.split()[3] == "/":
                return left.split()[4]
    raise AssertionError(
        "cgroup v2 is not mounted; run: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def cgroup_v1_mounts():
    """Mounts of the cgroup v1 hierarchies, if the machine is in hybrid mode."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return [line.split()[4] for line in table if " - cgroup " in line]


def kill_quietly(process):
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


class Host:
    def __init__(self, policy="", identity="", start=True, environment=None, bpffs=False):
        """`bpffs`: mount a separate BPF file system, as systemd does on a machine. Otherwise the
        one of this machine is used."""
        self.undo = undo.Undo()
        self.bpffs = None
        if bpffs:
            self.bpffs = self.undo.directory + "/bpf"
            self.undo.add("mount", self.bpffs)
            os.mkdir(self.bpffs)
            subprocess.run(["mount", "-t", "bpf", "bpf", self.bpffs], check=True)
        # Each daemon needs its own cgroup tree: a tree has one daemon.
        self.cgroups = f"{cgroup_mount()}/{os.path.basename(self.undo.directory)}"
        self.undo.add("cgroup", self.cgroups)
        os.mkdir(self.cgroups)
        self.environment = environment or {}
        self.netns = self.undo.name("h")
        self.undo.add("netns", self.netns)
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.config = self.undo.directory + "/etc"
        self.runtime = self.undo.directory + "/run"
        self.state = self.undo.directory + "/state"
        self.log = self.undo.directory + "/triremed.log"
        os.chmod(self.undo.directory, 0o755)
        os.mkdir(self.config)
        self.ip("link set lo up")
        self.ip(f"addr add {LOCAL4}/32 dev lo")
        self.ip(f"addr add {LOCAL6}/128 dev lo nodad")
        self.write("policy.toml", policy)
        self.write("identity.toml", identity)
        self.daemon = None
        self.daemon_wrapper = []  # a command that runs the daemon
        self.slice = None
        self.agents = []
        self.undo.call(self._end_processes)
        if start:
            try:
                self.start()
            except BaseException:
                print(
                    f"triremed's log:\n{self.log_text()}{self.trirectl('status').stderr}",
                    flush=True,
                )
                self.close()
                raise

    # --- commands on this host ---

    def inside(self, argv):
        """A command line that runs `argv` in the network namespace of this host and at the top of
        its cgroup tree, which looks like the whole tree from there."""
        return [
            "sh",
            "-c",
            f'echo $$ >{self.cgroups}/cgroup.procs && exec "$@"',
            "sh",
            "nsenter",
            f"--net=/run/netns/{self.netns}",
            "unshare",
            "--cgroup",
            *self._mounts(),
            *argv,
        ]

    def _mounts(self):
        if self.bpffs is None:
            return []
        bind = 'mount --bind "$0" /sys/fs/bpf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bind, self.bpffs]

    def popen(self, argv, **options):
        """Starts a process, which is killed at the end of the test, however that ends."""
        environment = {**os.environ, "TRIREME_RUNTIME_DIR": self.runtime, **self.environment}
        return subprocess.Popen(
            self.inside(argv), env=environment, preexec_fn=undo.die_with_parent, **options
        )

    def run(self, argv, timeout=30, **options):
        """Returns a CompletedProcess with text output; does not check the exit code."""
        with self.popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def must(self, argv, **options):
        done = self.run(argv, **options)
        if done.returncode != 0:
            raise AssertionError(
                f"{' '.join(argv)} exited with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done.stdout

    def ip(self, line):
        self.must(["ip", *line.split()])

    def nft(self, rules):
        self.must(["nft", rules])

    # --- the daemon ---

    def write(self, name, text):
        """Saves a file atomically: writes a new file and renames it."""
        path = f"{self.config}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def daemon_command(self):
        directories = ["--config-dir", self.config, "--runtime-dir", self.runtime]
        directories += ["--state-dir", self.state]
        options = ["--cgroup-driver", "cgroupfs", "--foreground", "--log-level", "debug"]
        return [TRIREMED, *directories, *options]

    def spawn(self):
        """Starts the daemon without waiting for it."""
        with open(self.log, "a", encoding="utf-8") as log:
            self.daemon = self.popen(
                [*self.daemon_wrapper, *self.daemon_command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self):
        """Starts the daemon and waits until it enforces policy."""
        self.spawn()
        waiting.until(self.answers, "triremed answers", 20)
        if self.slice is None:
            scope = (
                self.trirun("probe=slice", ["cat", "/proc/self/cgroup"])
                .stdout.split("0::")[1]
                .split("\n")[0]
            )
            self.slice = os.path.dirname(scope)
            waiting.until(lambda: not self.workloads(), "the first workload is gone")

    def answers(self):
        if self.daemon.poll() is not None:
            raise AssertionError(
                f"triremed ended with {self.daemon.returncode}:\n{self.log_text()}"
            )
        return self.run([TRIRECTL, "status"]).returncode == 0

    def stop(self, number=signal.SIGTERM):
        self.daemon.send_signal(number)
        self.daemon.wait(20)

    def restart(self, number=signal.SIGKILL):
        self.stop(number)
        self.start()

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def trirectl(self, *arguments):
        return self.run([TRIRECTL, *arguments])

    def status(self):
        return json.loads(self.must([TRIRECTL, "status", "--json"]))

    def workloads(self):
        """The workloads that this host launched. A daemon also finds workloads of other instances
        on the machine."""
        listed = json.loads(self.must([TRIRECTL, "workloads", "--json"]))
        return [each for each in listed if each["cgroup"].startswith(f"{self.slice}/")]

    def generation(self):
        return self.status()["policy"]["generation"]

    def flows(self):
        return [json.loads(line) for line in self.must([TRIRECTL, "flows", "--json"]).splitlines()]

    def policy(self, text):
        """Saves a policy and waits until it is in force."""
        before = self.generation()
        self.write("policy.toml", text)
        waiting.until(lambda: self.generation() > before, "the new policy is in force")

    def explicit_reload(self, text):
        """Saves a policy and loads it with `trirectl reload`."""
        self.write("policy.toml", text)
        self.must([TRIRECTL, "reload"])

    # --- processes ---

    def trirun(self, labels, command, *options, **more):
        """Runs trirun until it exits. `labels` as in "app=web,env=dev"."""
        return self.run([TRIRUN, *_label_options(labels), *options, "--", *command], **more)

    def labelled(self, labels, *options):
        """An agent that is a workload."""
        return self._agent([TRIRUN, *_label_options(labels), *options, "--"])

    def plain(self, wrapper=()):
        """An agent that is an unlabeled process."""
        return self._agent(list(wrapper))

    def _agent(self, argv):
        made = agent.Agent(argv, spawn=self.popen)
        self.agents.append(made)
        made.cgroup()  # answers only after it has been enrolled
        return made

    def kill_agents(self):
        while self.agents:
            self.agents.pop().end()

    def _end_processes(self):
        self.kill_agents()
        if self.daemon is not None:
            kill_quietly(self.daemon)

    def close(self):
        self.undo.run()


def _label_options(labels):
    return [word for label in labels.split(",") for word in ("--label", label)]


class HostCase(unittest.TestCase):
    """Tests on one host. Each begins with POLICY and without processes."""

    POLICY = ""
    IDENTITY = ""

    @classmethod
    def setUpClass(cls):
        cls.host = Host(cls.POLICY, cls.IDENTITY)
        cls.addClassCleanup(cls.host.close)

    def setUp(self):
        self.addCleanup(self.host.kill_agents)

    def _callTestMethod(self, method):
        started = time.monotonic()
        try:
            method()
        except BaseException:
            print(
                f"--- after {time.monotonic() - started:.1f} s; end of the daemon's log:\n{self.host.log_text()[-2500:]}",
                flush=True,
            )
            raise

    def assert_allowed(self, outcome, note=""):
        self.assertEqual(outcome, "ok", note)

    def assert_refused(self, outcome, note=""):
        """Asserts that the refusal is immediate: by a reset, an ICMP error, or the sender's own
        kernel."""
        self.assertIn(
            outcome, ("ECONNREFUSED", "EHOSTUNREACH", "EACCES", "ECONNRESET", "EPERM"), note
        )

    def assert_silent(self, outcome, note=""):
        self.assertEqual(outcome, "timeout", note)
