# SPDX-License-Identifier: Apache-2.0
"""A booted systemd with a real Docker, over an overlay of the root of this machine. The documents
call it a host.

Everything that it creates is in a cgroup, mounts and a directory of its own. The journal of undo.py
removes them in any case.
"""

import json
import os
import re
import select
import shutil
import subprocess
import time
import unittest

from tests.system import images, undo, waiting
from tests.system.host import PRODUCTS, cgroup_mount, cgroup_v1_mounts, kill_quietly

NEEDED = ("systemd-nspawn", "dockerd", "docker", "nsenter", "busybox", "nginx", "curl")


class Lab:
    def __init__(self, install=True, files=(), name="lab"):
        """Boots, and returns when Docker runs and the products are installed; trireme is not
        started. `files` are (path, text) below /."""
        self.name = name
        for program in NEEDED:
            if shutil.which(program) is None:
                raise AssertionError(f"{program} is not installed; run tests/install-deps.sh")
        self.undo = undo.Undo()
        self.directory = self.undo.directory
        self.root = self.directory + "/root"
        self.log = self.directory + "/console.log"
        self.cgroup = f"{cgroup_mount()}/{os.path.basename(self.directory)}"
        self.nspawn = None
        try:
            self._mount()
            for path, text in files:
                self.write(path, text)
            if install:
                subprocess.run(
                    ["cmake", "--install", PRODUCTS],
                    env={**os.environ, "DESTDIR": self.root},
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            self._boot()
        except BaseException:
            self.show()
            self.close()
            raise

    def _mount(self):
        changes = self.directory + "/changes"
        os.mkdir(changes)
        os.mkdir(self.root)
        os.mkdir(self.directory + "/docker")
        for path in (changes, self.root):
            self.undo.add("mount", path)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", changes], check=True)
        for name in ("upper", "work"):
            os.mkdir(f"{changes}/{name}")
        subprocess.run(
            [
                "mount",
                "-t",
                "overlay",
                "overlay",
                "-o",
                f"lowerdir=/,upperdir={changes}/upper,workdir={changes}/work",
                self.root,
            ],
            check=True,
        )
        # Settings and services of this machine must not affect the tests. A first boot would only
        # enable units, so no unit may be enabled by a preset.
        for path in ("etc/trireme", "etc/docker", "etc/systemd/system"):
            shutil.rmtree(f"{self.root}/{path}", ignore_errors=True)
        self.write("etc/machine-id", "uninitialized\n")
        self.write("etc/systemd/system-preset/00-lab.preset", "disable *\n")
        self.write("etc/hostname", self.name + "\n")
        self.write("srv/served", "served\n")

    def write(self, path, text):
        """Saves a file as an editor does: writes a new file and renames it."""
        path = f"{self.root}/{path.lstrip('/')}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def _boot(self):
        # systemd-nspawn creates its cgroup in the v1 hierarchies as well.
        for mount in (*cgroup_v1_mounts(), cgroup_mount()):
            self.undo.add("cgroup", f"{mount}/{os.path.basename(self.cgroup)}")
        os.mkdir(self.cgroup)
        command = [
            "systemd-nspawn",
            "-q",
            "-M",
            self.undo.name("lab"),
            "-D",
            self.root,
            "--boot",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--capability=all",
            "--system-call-filter=add_key keyctl bpf",
            "--console=pipe",
            "--link-journal=no",
            f"--bind={self.directory}/docker:/var/lib/docker",
        ]
        self.undo.call(self._end)
        with open(self.log, "w", encoding="utf-8") as log:
            self.nspawn = subprocess.Popen(
                self._in_cgroup(self.cgroup, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1"},
                preexec_fn=undo.die_with_parent,
            )
        self.leader = waiting.until(self._find_leader, "systemd is started", 30)
        self.payload = waiting.until(self._find_payload, "systemd is in its cgroup", 30)
        self.shell = self.payload + "/shell"
        os.mkdir(self.shell)
        waiting.until(
            lambda: self.run(["systemctl", "is-system-running"]).stdout.strip()
            in ("running", "degraded"),
            "the boot is complete",
            120,
            0.1,
        )

        # systemd mounts it on a real machine, but systemd-nspawn prevents that.
        self.must(
            "mount -o remount,rw /sys && mkdir -p /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf"
            " && mount -o remount,ro /sys"
        )

    @staticmethod
    def _in_cgroup(path, command):
        return ["sh", "-c", f'echo $$ >{path}/cgroup.procs && exec "$@"', "sh", *command]

    def _find_leader(self):
        if self.nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.nspawn.returncode}")
        for child in _children(self.nspawn.pid):
            if _read(f"/proc/{child}/comm") == "systemd\n":
                return child
        return None

    def _find_payload(self):
        found = re.search(r"^0::(.*)/init\.scope$", _read(f"/proc/{self.leader}/cgroup"), re.M)
        return found and cgroup_mount() + found[1]

    def reboot(self):
        """Ends the machine without notice, as a power failure does, and boots it again. Only its
        disk is as before."""
        self._end()
        for mount in (*cgroup_v1_mounts(), cgroup_mount()):
            undo.remove_cgroup(f"{mount}/{os.path.basename(self.cgroup)}")
        self._boot()

    # --- commands: each in a cgroup of its own that is not a systemd unit, as in a shell ---

    def inside(self, argv):
        return self._in_cgroup(self.shell, ["nsenter", "-a", "-t", str(self.leader), "--", *argv])

    def popen(self, argv, **options):
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/root",
        }
        return subprocess.Popen(
            self.inside(argv), env=environment, cwd="/", preexec_fn=undo.die_with_parent, **options
        )

    def run(self, argv, timeout=60, **options):
        with self.popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def sh(self, line, timeout=60):
        """Runs one line as typed into a root shell."""
        return self.run(["bash", "-c", line], timeout)

    def must(self, line, timeout=60):
        done = self.sh(line, timeout)
        if done.returncode != 0:
            raise AssertionError(f"{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def link(self, other, *addresses):
        """Connects two labs by a link with the interface `net0` at both ends. `addresses` are
        (here, there)."""
        subprocess.run(
            [
                "ip",
                "link",
                "add",
                "net0",
                "netns",
                str(self.leader),
                "type",
                "veth",
                "peer",
                "name",
                "net0",
                "netns",
                str(other.leader),
            ],
            check=True,
        )
        for lab, mine in zip((self, other), zip(*addresses)):
            for address in mine:
                lab.must(f"ip addr add {address} dev net0" + (" nodad" if ":" in address else ""))
            lab.must("ip link set net0 up")

    # --- Docker and trireme ---

    def start_docker(self):
        self.must("systemctl start docker", 120)
        for image in images.all_images():
            self.import_image(*image)

    def import_image(self, name, tar, changes):
        with subprocess.Popen(
            self.inside(["docker", "import", *changes, "-", name]),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            preexec_fn=undo.die_with_parent,
        ) as process:
            process.communicate(tar)
        if process.returncode != 0:
            raise AssertionError(f"docker import {name} failed")

    def start_trireme(self):
        self.must("systemctl start trireme")

    def workloads(self):
        return json.loads(self.must("trirectl workloads --json"))

    def workload_of(self, container):
        for workload in self.workloads():
            if workload.get("container", "").startswith(container):
                return workload
        return None

    def await_state(self, container, state, seconds=15):
        return waiting.until(
            lambda: (self.workload_of(container) or {}).get("state") == state,
            f"{container} is {state}",
            seconds,
        )

    def ask(self, port, labels=None):
        """The answer of `busybox httpd -h /srv` there to a client with these labels, or to an
        unlabeled one: "served", or "" if refused."""
        wrapper = f"trirun --label {labels} -- " if labels else ""
        return self.sh(
            f"{wrapper}curl -s --max-time 3 http://127.0.0.1:{port}/served"
        ).stdout.strip()

    def await_served(self, port, labels=None, seconds=15):
        waiting.until(
            lambda: self.ask(port, labels) == "served",
            f"{labels} is served at {port}",
            seconds,
            0.05,
        )

    def prober(self, *ports, seconds=600):
        """Starts an unlabeled process that connects to the ports in turn as fast as it can and
        counts the accepted connections."""
        script = (
            "import socket, sys, time\n"
            f"end, ok, tries = time.monotonic() + {seconds}, 0, 0\n"
            "while time.monotonic() < end:\n"
            f"    for port in {list(ports)!r}:\n"
            "        s = socket.socket()\n"
            "        s.settimeout(0.2)\n"
            "        try:\n"
            "            s.connect(('127.0.0.1', port))\n"
            "            ok += 1\n"
            "        except OSError:\n"
            "            pass\n"
            "        s.close()\n"
            "        tries += 1\n"
            "    print(ok, tries, flush=True)\n"
        )
        with open(self.directory + "/probe", "w", encoding="ascii") as counts:
            return self.popen(["/usr/bin/python3", "-c", script], stdout=counts)

    def end_prober(self, process):
        process.kill()
        process.wait()
        with open(self.directory + "/probe", encoding="ascii") as file:
            accepted, tries = file.read().strip().rsplit("\n", 1)[-1].split()
        if int(tries) <= 100:
            raise AssertionError(f"only {tries} attempts")
        return int(accepted)

    def status(self):
        return json.loads(self.must("trirectl status --json"))

    def policy(self, text):
        """Saves a policy and waits until it is in force."""
        self.write("etc/trireme/policy.toml", text)
        self.must("trirectl reload")

    def remove_containers(self):
        # In small groups: Docker 20.10 hangs if hundreds are removed at once.
        self.sh("docker ps -aq | xargs -r -n 8 docker rm -f", 300)

    # --- the end ---

    def show(self):
        if self.nspawn is not None and self.nspawn.poll() is None and hasattr(self, "leader"):
            for line in (
                "journalctl -b --no-pager -n 60 -u trireme -u docker",
                "systemctl --failed --no-pager",
            ):
                done = self.sh(line)
                print(f"--- {line}\n{done.stdout}{done.stderr}", flush=True)
        else:
            print(_read(self.log)[-4000:], flush=True)

    def _end(self):
        if self.nspawn is not None:
            kill = self.cgroup + "/cgroup.kill"
            if os.path.exists(kill):
                with open(kill, "w", encoding="ascii") as file:
                    file.write("1")
            kill_quietly(self.nspawn)

    def close(self):
        self.undo.run()


def _children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += [int(child) for child in _read(f"/proc/{pid}/task/{task}/children").split()]
    return found


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


class SeveralLabs:
    """A test with `labs` by name. If it fails, their last output is shown."""

    def _callTestMethod(self, method):
        try:
            method()
        except BaseException:
            for lab in self.labs.values():
                lab.show()
            raise


class LabCase(unittest.TestCase):
    """Tests in one lab, with the shipped configuration; the daemon runs."""

    DOCKER = True
    FILES = ()

    @classmethod
    def setUpClass(cls):
        began = time.monotonic()
        cls.lab = Lab(files=cls.FILES)
        cls.addClassCleanup(cls.lab.close)
        try:
            if cls.DOCKER:
                cls.lab.start_docker()
            cls.lab.start_trireme()
        except BaseException:
            cls.lab.show()
            raise
        print(f"the lab is up after {time.monotonic() - began:.1f} s", flush=True)

    def setUp(self):
        self.addCleanup(self.lab.remove_containers if self.DOCKER else lambda: None)

    def talking(self, command):
        """A client with an open connection. The port is the last word of its command. Returns a
        function that says whether it still echoes, or has ended; a connection that does neither is
        an error."""
        # systemd and Docker report a start before the program listens.
        listening = f"ss -Hltn sport = :{command[-1]}"
        waiting.until(lambda: self.lab.must(listening), "its server listens")
        client = self.lab.popen(command, stdin=-1, stdout=-1, text=True)
        self.addCleanup(self._end, client)

        def exchange():
            try:
                client.stdin.write("ping\n")
                client.stdin.flush()
            except BrokenPipeError:
                return False
            if not select.select([client.stdout], [], [], 10 * waiting.PATIENCE)[0]:
                raise AssertionError("the connection neither answers nor has ended")
            return client.stdout.readline() == "ping\n"

        waiting.until(exchange, "it is connected")
        return exchange

    @staticmethod
    def _end(client):
        client.kill()
        client.communicate()

    def _callTestMethod(self, method):
        try:
            method()
        except BaseException:
            self.lab.show()
            raise
