# SPDX-License-Identifier: Apache-2.0
"""A link between two hosts that a test controls: a network namespace that forwards frames, drops or
duplicates some, and lets a test read, hold back and send frames."""

import ctypes
import os
import socket
import struct
import subprocess
import time

from tests.system import packets, undo

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 3
_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17
_PACKET_OUTGOING = 4


def _inside(netns, function):
    """Runs `function` in that network namespace; descriptors that it opens stay there."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    try:
        if _LIBC.setns(other, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return function()
        finally:
            if _LIBC.setns(own, _CLONE_NEWNET) != 0:
                os._exit(70)  # in the wrong namespace: must not continue
    finally:
        os.close(own)
        os.close(other)


class Wire:
    """A link between `client` and `server`, which get these addresses, each (IPv4 with prefix, IPv6
    with prefix)."""

    def __init__(self, client, server, client_addresses, server_addresses):
        self.undo = undo.Undo()
        self.netns = self.undo.name("w")
        self.undo.add("netns", self.netns)
        subprocess.run(["ip", "netns", "add", self.netns], check=True)
        self.ends = {}
        for side, each, addresses in (
            ("client", client, client_addresses),
            ("server", server, server_addresses),
        ):
            far, near = each.undo.name("v"), self.undo.name("v")
            subprocess.run(
                [
                    "ip",
                    "link",
                    "add",
                    far,
                    "netns",
                    each.netns,
                    "type",
                    "veth",
                    "peer",
                    "name",
                    near,
                    "netns",
                    self.netns,
                ],
                check=True,
            )
            for address in addresses:
                each.ip(f"addr add {address} dev {far}" + (" nodad" if ":" in address else ""))
            each.ip(f"link set {far} up")
            self._run("ip", "link", "set", near, "up")
            self.ends[side] = near
            # Frames that are read here need complete checksums. By default the kernel leaves them
            # to the device, and this one does not compute them.
            _inside(each.netns, lambda device=far: _checksums_in_full(device))
            with_mac = each.must(["ip", "-j", "link", "show", far])
            setattr(
                self,
                f"{side}_mac",
                bytes.fromhex(with_mac.split('"address":"')[1][:17].replace(":", "")),
            )
        self.be()

    def close(self):
        self.undo.run()

    def _run(self, *argv):
        subprocess.run(["nsenter", f"--net=/run/netns/{self.netns}", *argv], check=True)

    def be(self, loss=0, twice=0, hold="", from_side=None):
        """Drops and duplicates these percentages of frames. Holds back those that match `hold`
        (nft), from one side or both."""
        rules = ["add table netdev wire", "delete table netdev wire", "add table netdev wire"]
        share = {
            percent: f"numgen random mod 100 < {percent} " if percent < 100 else ""
            for percent in (loss, twice)
        }
        for side, to in (("client", "server"), ("server", "client")):
            chain = f"from_{side}"
            rules.append(
                f"add chain netdev wire {chain} {{ type filter hook ingress device {self.ends[side]} priority 0; }}"
            )
            if hold and from_side in (None, side):
                rules.append(f"add rule netdev wire {chain} {hold} counter drop")
            if loss:
                rules.append(
                    f"add rule netdev wire {chain} meta l4proto tcp {share[loss]}counter drop"
                )
            if twice:
                rules.append(
                    f"add rule netdev wire {chain} meta l4proto tcp {share[twice]}counter dup to {self.ends[to]}"
                )
            rules.append(f"add rule netdev wire {chain} fwd to {self.ends[to]}")
        self._run("nft", "\n".join(rules))

    def tap(self, side):
        """A Tap that reads what that side sends and can send to it."""
        return Tap(
            _inside(self.netns, lambda: _packet_socket(self.ends[side])),
            getattr(self, f"{side}_mac"),
        )


def _checksums_in_full(device):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_STXCSUM, 0))
        request = ctypes.create_string_buffer(
            struct.pack("16sQ16x", device.encode(), ctypes.addressof(value))
        )
        if _LIBC.ioctl(control.fileno(), _SIOCETHTOOL, request) != 0:
            raise OSError(ctypes.get_errno(), f"checksums of {device}")


def _packet_socket(device):
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((device, _ETH_P_ALL))
    return opened


class Tap:
    def __init__(self, opened, mac):
        self.socket = opened
        self.mac = mac

    def send(self, packet):
        """Sends an IPv4 packet to the host on that side."""
        self.socket.send(self.mac + b"\x02\0\0\0\0\x66\x08\x00" + packet)

    def drain(self):
        """Discards the packets received so far."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(65536)
        except BlockingIOError:
            pass

    def read(self, which, seconds=3.0):
        """The next segment (packets.Segment) of that host for which `which` is true; None after
        `seconds`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame, sender = self.socket.recvfrom(65536)
            except TimeoutError:
                break
            if sender[2] == _PACKET_OUTGOING or frame[12:14] != b"\x08\x00":
                continue
            segment = packets.parse(frame[14:])
            if segment and which(segment):
                return segment
        return None

    def flood(self, sent, seconds, rate):
        """Sends IPv4 packets in a loop, up to `rate` per second. Returns how many were sent."""
        batch = 64
        frames = [
            ctypes.create_string_buffer(self.mac + b"\x02\0\0\0\0\x66\x08\x00" + packet)
            for packet in sent
        ]
        vectors = (_Vector * len(frames))(
            *[_Vector(ctypes.addressof(frame), len(frame) - 1) for frame in frames]
        )
        messages = (_Message * len(frames))()
        for index, message in enumerate(messages):
            message.vector, message.vectors = ctypes.pointer(vectors[index]), 1
        begin, count = time.monotonic(), 0
        while (passed := time.monotonic() - begin) < seconds:
            if count > passed * rate:
                time.sleep(0.001)
                continue
            at = count % (len(frames) - batch + 1)
            done = _LIBC.sendmmsg(
                self.socket.fileno(), ctypes.byref(messages, at * ctypes.sizeof(_Message)), batch, 0
            )
            count += max(done, 0)
        return count

    def close(self):
        self.socket.close()


class _Vector(ctypes.Structure):  # struct iovec
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vector", ctypes.POINTER(_Vector)),
        ("vectors", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    ]
