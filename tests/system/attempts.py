# SPDX-License-Identifier: Apache-2.0
"""A process that tries many packets in one turn, through sockets that it makes, is given, and gives
away.

Run as a workload, or as a plain process; the same file is its own client (class Attempts). Orders
come over the Unix socket that is its stdin, so that sockets can travel with them. No socket ever
blocks: what has not arrived when a test asks is not there.
"""

import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys

PATIENT = 200.0 if os.environ.get("TRIREME_SLOW") == "1" else 20.0
SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h
ESTABLISHED, SYN_SENT = 1, 2  # include/net/tcp_states.h
MARK = struct.Struct("=Q")
MOST = 1 << 16  # bytes of a message


class Attempts:
    """The test's end."""

    def __init__(self, argv, spawn, name):
        self.name = name
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(PATIENT * 10)
        with theirs:
            self.process = spawn(
                [*argv, "/usr/bin/python3", "-E", "-S", "-B", os.path.abspath(__file__)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
            )

    def order(self, order, *arguments, give=()):
        """What it answers."""
        return self.order_socket(order, *arguments, give=give)[0]

    def order_socket(self, order, *arguments, give=()):
        """What it answers, and the descriptors that came along."""
        try:
            message = json.dumps([order, arguments]).encode()
            socket.send_fds(self.channel, [message], list(give))
            answer, descriptors, _, _ = socket.recv_fds(self.channel, MOST, 1)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        if not answer:
            raise AssertionError(f"{self.name} ended with {self.process.wait()}")
        value = json.loads(answer)
        if isinstance(value, dict) and "broken" in value:
            raise AssertionError(f"{self.name}: {value['broken']}")
        return value, descriptors

    def end(self):
        """SIGKILL, and gone when this returns."""
        self.process.kill()
        self.process.wait()
        self.channel.close()


def _name(error):
    return errno.errorcode.get(error, str(error))


def _tcp_state(opened):
    return opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _close(opened):
    """With a reset where it is a connection: nothing is left of it."""
    if opened.type == socket.SOCK_STREAM:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


def _disconnect(opened):
    """So that the same socket can connect again: AF_UNSPEC, which the socket module cannot say."""
    import ctypes  # takes as long as all the rest, and only some need it

    ctypes.CDLL(None).connect(opened.fileno(), bytes(16), 16)


def _enter(namespace):
    """For a child, which ends where it cannot."""
    import ctypes

    with open(namespace, "rb") as file:
        if ctypes.CDLL(None).setns(file.fileno(), 0) != 0:
            os._exit(1)


def _choose_at_random(opened):
    """A classic BPF program that sends what comes to a SO_REUSEPORT group to either of two."""
    import ctypes

    code = struct.pack("=HBBI", 0x20, 0, 0, 0xFFFFF038)  # a random number
    code += struct.pack("=HBBI", 0x94, 0, 0, 2) + struct.pack("=HBBI", 0x16, 0, 0, 0)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 3, ctypes.addressof(kept))
    opened.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


class Orders:
    def __init__(self):
        self.sockets = {}
        self.accepted = []
        self.own = None

    # --- one socket ---

    def make(self, name, kind, v6, place, group="", forked=False, namespace=""):
        """Bound where there is a place, listening where the kind is "listener". `group`: "join" or
        "choose", a SO_REUSEPORT group. `namespace`: of the network, in which a child makes it. The
        outcome."""
        if not (forked or namespace):
            made = self._made(kind, v6, place, group)
        else:
            ours, of_child = socket.socketpair()
            child = os.fork()
            if child == 0:
                if namespace:
                    _enter(namespace)
                made = self._made(kind, v6, place, group)
                failed = isinstance(made, str)
                text = (made if failed else "ok").encode()
                socket.send_fds(of_child, [text], [] if failed else [made.fileno()])
                os._exit(0)
            os.waitpid(child, 0)
            text, descriptors, _, _ = socket.recv_fds(ours, 64, 1)
            made = socket.socket(fileno=descriptors[0]) if descriptors else text.decode()
            ours.close()
            of_child.close()
        if isinstance(made, str):
            return made
        made.setblocking(False)
        self.sockets[name] = made
        return "ok"

    @staticmethod
    def _made(kind, v6, place, group):
        made = socket.socket(
            socket.AF_INET6 if v6 else socket.AF_INET,
            socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM,
        )
        try:
            if kind == "listener":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if group:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if v6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if place:
                made.bind(tuple(place))
            if kind == "listener":
                made.listen(64)
            if group == "choose":
                _choose_at_random(made)
        except OSError as error:
            made.close()
            return _name(error.errno)
        return made

    def connect(self, name, address, port):
        """A UDP socket; without an address not any more."""
        opened = self.sockets[name]
        if not address:
            _disconnect(opened)
            return "ok"
        return _name(opened.connect_ex((address, port)))

    def give(self, name):
        """Not ours any more; the descriptor goes with the answer."""
        return "ok", self.sockets.pop(name)

    def close(self, name):
        _close(self.sockets.pop(name))
        return "ok"

    def port(self, name):
        return self.sockets[name].getsockname()[1]

    # --- datagrams ---

    def send(self, sends, forked=False):
        """[[name, address, port, mark], ...]; without an address to whom it is connected. The
        outcomes. `forked`: a child sends."""
        if not forked:
            return [self._sent(*each) for each in sends]
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, json.dumps([self._sent(*each) for each in sends]).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            return json.loads(pipe.read())

    def _sent(self, name, address, port, mark):
        opened = self.sockets[name]
        opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # what an earlier datagram met
        try:
            if address:
                opened.sendto(MARK.pack(mark), (address, port))
            else:
                opened.send(MARK.pack(mark))
        except OSError as error:
            return _name(error.errno)
        return "ok"

    def drain(self, names):
        """{name: [[mark, address, port], ...]} of what has arrived."""
        arrived = {}
        for name in names:
            while True:
                try:
                    data, sender = self.sockets[name].recvfrom(64)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an ICMP error
                arrived.setdefault(name, []).append([MARK.unpack(data)[0], *sender[:2]])
        return arrived

    # --- connections ---

    def dial(self, dials):
        """[[name, address, port], ...]."""
        for name, address, port in dials:
            self.sockets[name].connect_ex((address, port))
        return "ok"

    def answer(self, listeners):
        """Accepts what is there and answers each with what it says. {listener: [mark, ...]}, 0 for
        a connection that says nothing."""
        self.hang_up()
        heard = {}
        for name in listeners:
            while (opened := self._accepted(name)) is not None:
                self.accepted.append(opened)
                mark = self._heard(opened)
                if isinstance(mark, int):
                    opened.send(MARK.pack(mark))
                heard.setdefault(name, []).append(mark if isinstance(mark, int) else 0)
        return heard

    def hang_up(self):
        while self.accepted:
            _close(self.accepted.pop())
        return "ok"

    def _accepted(self, name):
        try:
            opened, _ = self.sockets[name].accept()
        except OSError:
            return None
        opened.setblocking(False)
        return opened

    @staticmethod
    def _heard(opened):
        """A mark, None where there is nothing, or how it ended."""
        try:
            data = opened.recv(64)
        except BlockingIOError:
            return None
        except OSError as error:
            return _name(error.errno)
        return MARK.unpack_from(data)[0] if data else "end"

    def conclude(self, names):
        """[[outcome, answer], ...] of what was dialed: "ok", "silence" or an error. Then it can
        dial again."""
        outcomes = []
        for name in names:
            opened = self.sockets[name]
            state = _tcp_state(opened)
            if state == ESTABLISHED:
                outcomes.append(["ok", self._heard(opened)])
            elif state == SYN_SENT:
                outcomes.append(["silence", None])
            else:
                error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                outcomes.append([_name(error) if error else "closed", None])
            _disconnect(opened)
        return outcomes

    def keep(self, listener, name):
        """A connection that has come, as a socket of its own."""
        opened = self._accepted(listener)
        if opened is None:
            return "nothing"
        self.sockets[name] = opened
        return "ok"

    def say(self, says):
        """[[name, mark], ...] where there is a connection."""
        for name, mark in says:
            if _tcp_state(self.sockets[name]) == ESTABLISHED:
                self.sockets[name].send(MARK.pack(mark))
        return "ok"

    def hear(self, names):
        return [self._heard(self.sockets[name]) for name in names]

    def states(self, names):
        return [_tcp_state(self.sockets[name]) for name in names]

    # --- the process itself ---

    def cgroup(self):
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return next(line[3:].strip() for line in file if line.startswith("0::"))

    def barrier(self, times):
        """Everything that processes on this processor had sent over lo before has been delivered or
        refused: it was in the same queue. `times`: of what answers to it, and to that, as well."""
        if self.own is None:
            self.own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.own.bind(("127.0.0.1", 0))
        for _ in range(times):
            self.own.sendto(b"here", self.own.getsockname())
            if not select.select([self.own], [], [], PATIENT)[0]:
                raise TimeoutError("a process's datagram to itself does not arrive")
            self.own.recv(64)
        return "ok"


def main():
    channel, orders = socket.socket(fileno=0), Orders()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MOST, 1)
        if not message:
            return
        order, arguments = json.loads(message)
        leaving = None
        try:
            if order == "take":
                taken = socket.socket(fileno=descriptors[0])
                taken.setblocking(False)
                orders.sockets[arguments[0]] = taken
                answer = "ok"
            elif order == "give":
                answer, leaving = orders.give(*arguments)
            else:
                answer = getattr(orders, order)(*arguments)
        except Exception as error:  # told to the test, which fails
            answer = {"broken": f"{order}{tuple(arguments)}: {type(error).__name__}: {error}"}
        text = json.dumps(answer).encode()
        socket.send_fds(channel, [text], [leaving.fileno()] if leaving else [])
        if leaving:
            leaving.close()


if __name__ == "__main__":
    sys.exit(main())
