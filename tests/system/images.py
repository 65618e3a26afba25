# SPDX-License-Identifier: Apache-2.0
"""Container images without a registry: busybox, and the nginx and curl of this machine with their
libraries, as tar files for `docker import`."""

import functools
import io
import os
import re
import shutil
import subprocess
import tarfile

NGINX_CONF = """
daemon off;
user root;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  server { listen 80; listen [::]:80; location / { return 200 "hello from nginx\\n"; } }
}
"""

APPLETS = (
    "sh",
    "nc",
    "wget",
    "httpd",
    "sleep",
    "cat",
    "echo",
    "true",
    "kill",
    "ps",
    "ip",
    "seq",
    "id",
    "test",
    "env",
    "setsid",
    "timeout",
)


def _libraries(program):
    """The paths of a program's libraries as its loader prints them, and of the loader."""
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+)", re.sub(r"\(0x[0-9a-f]+\)", "", listing))


class _Tar:
    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")
        self.names = set()

    def file(self, path, data, mode=0o644):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = len(data), mode
        self.tar.addfile(entry, io.BytesIO(data))

    def copy(self, path):
        if path not in self.names:
            self.names.add(path)
            with open(path, "rb") as file:
                self.file(path, file.read(), 0o755)

    def program(self, path):
        self.copy(path)
        for library in _libraries(path):
            self.copy(library)

    def directory(self, path, mode=0o755):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def link(self, path, target):
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)

    def busybox(self):
        with open(shutil.which("busybox"), "rb") as file:
            self.file("/bin/busybox", file.read(), 0o755)
        for applet in APPLETS:
            self.link(f"/bin/{applet}", "busybox")
        self.directory("/tmp", 0o1777)
        self.file("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        self.file("/etc/group", b"root:x:0:\n")
        self.file("/etc/nsswitch.conf", b"hosts: files dns\n")
        self.file("/srv/served", b"served\n")

    def done(self):
        self.tar.close()
        return self.buffer.getvalue()


def dns_image():
    """The image of a name server with clients for it: dig, and libc through getent."""
    tar = _Tar()
    tar.busybox()
    for name in ("dnsmasq", "dig", "getent"):
        tar.program(os.path.realpath(shutil.which(name, path="/usr/sbin:/usr/bin")))
    return "dns", tar.done(), ["-c", 'CMD ["sh"]']


@functools.cache
def all_images():
    """(name, tar file, options of docker import). The curl image has labels, as published images
    can have."""
    busybox = _Tar()
    busybox.busybox()
    nginx = _Tar()
    nginx.busybox()
    nginx.program(os.path.realpath(shutil.which("nginx")))
    nginx.file("/etc/nginx/nginx.conf", NGINX_CONF.encode())
    for directory in ("/var", "/var/log", "/var/log/nginx", "/var/lib", "/var/lib/nginx"):
        nginx.directory(directory)
    curl = _Tar()
    curl.busybox()
    curl.program(os.path.realpath(shutil.which("curl")))
    run_nginx = f'CMD ["{os.path.realpath(shutil.which("nginx"))}", "-c", "/etc/nginx/nginx.conf"]'
    return (
        ("busybox", busybox.done(), ["-c", 'CMD ["sh"]']),
        ("nginx", nginx.done(), ["-c", run_nginx, "-c", "LABEL maintainer=lab"]),
        ("curlimages/curl", curl.done(), ["-c", 'CMD ["sh"]', "-c", "LABEL maintainer=lab"]),
        ("impostor", busybox.done(), ["-c", 'CMD ["sh"]', "-c", "LABEL app=nginx"]),
    )
