# SPDX-License-Identifier: Apache-2.0
"""Debian's own kernel under QEMU, with an initramfs of this machine's programs, the products and
these tests.

The package of the kernel is downloaded but not installed. QEMU emulates in software: slowly, but
identically everywhere.
"""

import glob
import os
import re
import shutil
import subprocess

from tests.system.host import PRODUCTS, ROOT

PACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROGRAMS = (
    "python3",
    "ip",
    "nft",
    "nsenter",
    "unshare",
    "setpriv",
    "sysctl",
    "conntrack",
    "getfattr",
    "bash",
    "timeout",
    "umount",
    "mount",
    "sh",
    "cat",
    "seq",
    "sleep",
    "touch",
    "id",
    "true",
    "tty",
    "env",
    "busybox",
    "kmod",
    "dig",
    "dnsmasq",
    "iperf3",
)
MODULE_TREES = ("net", "lib", "crypto", "drivers/net/veth.ko", "arch/x86/crypto")
PYTHON = "/usr/lib/python3.11"
UNUSED_PYTHON = shutil.ignore_patterns(
    "test",
    "idlelib",
    "tkinter",
    "__pycache__",
    "pydoc_data",
    "ensurepip",
    "distutils",
    "lib2to3",
    "config-*",
)

INIT = """#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 TRIREME_PRODUCTS=/products TRIREME_SLOW=1 LC_ALL=C.UTF-8
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /run && mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
ulimit -n 65536
cd /
uname -r
python3 -B -m tests.system {modules} </dev/null
echo "VM-RESULT: $?"
busybox poweroff -f
"""


def require_programs(case):
    for program in ("qemu-system-x86_64", "cpio", "apt-get", "depmod"):
        case.assertIsNotNone(
            shutil.which(program), f"{program} is not installed; run tests/install-deps.sh"
        )


def _sources(release):
    """The package sources of this machine, for another release of Debian."""
    found = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
            "Origin: Debian",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = set()
    for line in found.splitlines():
        uri, suite = line.split()
        part = suite.partition("-")[2]
        if part in ("", "security"):
            name = f"{release}-{part}" if part else release
            lines.add(f"deb [signed-by={KEYRING}] {uri} {name} main\n")
    return "".join(sorted(lines))


def _apt(directory, release):
    """Options of apt that keep the lists of another release apart from those of this machine."""
    if release is None:
        return ["-o", "APT::Sandbox::User=root"]
    apt = directory + "/apt"
    os.makedirs(apt + "/lists/partial", exist_ok=True)
    with open(apt + "/sources.list", "w", encoding="utf-8") as file:
        file.write(_sources(release))
    options = []
    for option in (
        f"Dir::Etc::sourcelist={apt}/sources.list",
        "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={apt}/lists",
        f"Dir::Cache={apt}",
        "APT::Sandbox::User=root",
    ):
        options += ["-o", option]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    return options


def fetch_kernel(directory, release=None):
    """Extracts the kernel's package below `directory`, where the download is kept for the next run.
    `release`: Debian's code name; by default this machine's."""
    found = glob.glob(directory + "/*.deb")
    if not found:
        os.makedirs(directory, exist_ok=True)
        options = _apt(directory, release)
        depends = subprocess.run(
            ["apt-cache", *options, "depends", PACKAGE], capture_output=True, text=True, check=True
        ).stdout
        image = re.search(r"Depends: (linux-image-\S+)", depends)[1]
        subprocess.run(["apt-get", "-qq", *options, "download", image], cwd=directory, check=True)
        shutil.rmtree(directory + "/apt", ignore_errors=True)
        found = glob.glob(directory + "/*.deb")
    target = directory + "/kernel"
    if not os.path.isdir(target):
        subprocess.run(["dpkg-deb", "-x", found[0], target + ".new"], check=True)
        os.rename(target + ".new", target)
    return target


def _copy_program(path, root):
    wanted = [path] + re.findall(
        r"(/\S+)",
        re.sub(
            r"\(0x[0-9a-f]+\)",
            "",
            subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout,
        ),
    )
    for source in wanted:
        if os.path.exists(source) and not os.path.exists(root + source):
            os.makedirs(os.path.dirname(root + source), exist_ok=True)
            shutil.copy(source, root + source)


def _links(root):
    for name in ("bin", "sbin", "lib", "lib64"):
        os.makedirs(f"{root}/usr/{name}", exist_ok=True)
        os.symlink(f"usr/{name}", f"{root}/{name}")


def make_initramfs(kernel, directory, modules):
    """Returns the path of the compressed archive."""
    root = directory + "/root"
    os.mkdir(root)
    _links(root)
    for name in PROGRAMS:
        _copy_program(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin"), root)
    os.symlink("kmod", root + "/usr/bin/modprobe")
    os.makedirs(root + "/usr/sbin", exist_ok=True)
    os.symlink("/usr/bin/kmod", root + "/usr/sbin/modprobe")
    for program in ("src/daemon/triremed", "src/cli/trirun", "src/cli/trirectl"):
        _copy_program(f"{PRODUCTS}/{program}", root)
        os.makedirs(f"{root}/products/{os.path.dirname(program)}", exist_ok=True)
        shutil.copy(f"{PRODUCTS}/{program}", f"{root}/products/{program}")
    shutil.copytree(PYTHON, root + PYTHON, ignore=UNUSED_PYTHON)
    for library in glob.glob(PYTHON + "/lib-dynload/*.so"):
        for found in re.findall(
            r"=> (/\S+)",
            subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout,
        ):
            _copy_program(found, root)
    shutil.copytree(
        ROOT + "/tests/system", root + "/tests/system", ignore=shutil.ignore_patterns("__pycache__")
    )
    _kernel_modules(kernel, root)
    for path in ("proc", "sys", "dev", "tmp", "run", "etc", "root", "var"):
        os.makedirs(f"{root}/{path}", exist_ok=True)
    for name in ("passwd", "group", "protocols", "services"):
        if os.path.exists("/etc/" + name):
            shutil.copy("/etc/" + name, root + "/etc/" + name)
    with open(root + "/init", "w", encoding="utf-8") as file:
        file.write(INIT.format(modules=" ".join(modules)))
    os.chmod(root + "/init", 0o755)
    archive = directory + "/initramfs"
    subprocess.run(
        f"find . | cpio -o -H newc --quiet | gzip -1 >{archive}", shell=True, cwd=root, check=True
    )
    return archive


def _kernel_modules(kernel, root):
    (release,) = os.listdir(kernel + "/lib/modules")
    source, target = f"{kernel}/lib/modules/{release}", f"{root}/usr/lib/modules/{release}"
    for tree in MODULE_TREES:
        path = f"{source}/kernel/{tree}"
        os.makedirs(os.path.dirname(f"{target}/kernel/{tree}"), exist_ok=True)
        (shutil.copytree if os.path.isdir(path) else shutil.copy)(path, f"{target}/kernel/{tree}")
    for name in glob.glob(source + "/modules.*"):
        shutil.copy(name, target)
    subprocess.run(["depmod", "-b", root + "/usr", release], check=True, stderr=subprocess.DEVNULL)


def boot(kernel, archive, console, seconds):
    """Boots and runs the tests. Returns their exit code and the output on the console, which also
    is in the file `console`."""
    (image,) = glob.glob(kernel + "/boot/vmlinuz-*")
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg,thread=multi",
        "-smp",
        "2",
        "-m",
        "2048",
        "-cpu",
        "max",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        f"file:{console}",
        "-kernel",
        image,
        "-initrd",
        archive,
        "-append",
        # The kernel's timer check fails if the emulator has to wait for a processor.
        "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check",
    ]
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=seconds, check=True)
    with open(console, encoding="utf-8", errors="replace") as file:
        text = file.read()
    result = re.search(r"VM-RESULT: (\d+)", text)
    return (int(result[1]) if result else -1), text
