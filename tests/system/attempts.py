# SPDX-License-Identifier: Apache-2.0
"""A process that tries many packets for each order, with sockets that it opens, receives from other
processes and passes on.

It runs as a workload or as an unlabeled process. The class Attempts in this file is its client.
Orders come over the Unix socket that is its stdin, so that they can carry sockets. All sockets are
nonblocking: what has not arrived when a test asks counts as not sent.
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
MOST = 1 << 16  # bytes in a message


class Attempts:
    """The client, for use in tests."""

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
        """Returns the answer to the order."""
        return self.order_socket(order, *arguments, give=give)[0]

    def order_socket(self, order, *arguments, give=()):
        """Returns the answer and the file descriptors that came with it."""
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
        """Kills the process with SIGKILL and waits for its end."""
        self.process.kill()
        self.process.wait()
        self.channel.close()


def _name(error):
    return errno.errorcode.get(error, str(error))


def _tcp_state(opened):
    return opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _close(opened):
    """Closes a socket; a connection with a reset, so that no state of it is left."""
    if opened.type == socket.SOCK_STREAM:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.close()


def _disconnect(opened):
    """Disconnects a socket, so that it can connect again. Needs AF_UNSPEC, which Python's socket
    module does not support."""
    import ctypes  # slow to import, and few processes need it

    ctypes.CDLL(None).connect(opened.fileno(), bytes(16), 16)


def _enter(namespace):
    """Enters a network namespace, in a child process, which exits on failure."""
    import ctypes

    with open(namespace, "rb") as file:
        if ctypes.CDLL(None).setns(file.fileno(), 0) != 0:
            os._exit(1)


def _choose_at_random(opened):
    """Attaches a classic BPF program that selects one of two members of a SO_REUSEPORT group at
    random."""
    import ctypes

    code = struct.pack("=HBBI", 0x20, 0, 0, 0xFFFFF038)  # loads a random number
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
        """Opens a socket, binds it if there is a `place`, and listens if `kind` is "listener".
        `group`: "join" or "choose", a SO_REUSEPORT group. `namespace`: a network namespace, in
        which a child opens the socket. Returns the outcome."""
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
        """Connects a UDP socket; disconnects it if there is no address."""
        opened = self.sockets[name]
        if not address:
            _disconnect(opened)
            return "ok"
        return _name(opened.connect_ex((address, port)))

    def give(self, name):
        """Closes a socket after its descriptor has been sent with the answer."""
        return "ok", self.sockets.pop(name)

    def close(self, name):
        _close(self.sockets.pop(name))
        return "ok"

    def port(self, name):
        return self.sockets[name].getsockname()[1]

    # --- datagrams ---

    def send(self, sends, forked=False):
        """Sends [[name, address, port, mark], ...], to the connected peer if there is no address.
        Returns the outcomes. `forked`: a child sends."""
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
        opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # clears an earlier error
        try:
            if address:
                opened.sendto(MARK.pack(mark), (address, port))
            else:
                opened.send(MARK.pack(mark))
        except OSError as error:
            return _name(error.errno)
        return "ok"

    def drain(self, names):
        """{name: [[mark, address, port], ...]} of the datagrams that have arrived."""
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
        """Starts the connections [[name, address, port], ...]."""
        for name, address, port in dials:
            self.sockets[name].connect_ex((address, port))
        return "ok"

    def answer(self, listeners):
        """Accepts the waiting connections and echoes what each sends. Returns {listener: [mark,
        ...]}, with 0 for a connection that sends nothing."""
        self.hang_up()
        received = {}
        for name in listeners:
            while (opened := self._accepted(name)) is not None:
                self.accepted.append(opened)
                mark = self._received(opened)
                if isinstance(mark, int):
                    opened.send(MARK.pack(mark))
                received.setdefault(name, []).append(mark if isinstance(mark, int) else 0)
        return received

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
    def _received(opened):
        """The mark that has arrived, None if there is none, or how the connection ended."""
        try:
            data = opened.recv(64)
        except BlockingIOError:
            return None
        except OSError as error:
            return _name(error.errno)
        return MARK.unpack_from(data)[0] if data else "end"

    def conclude(self, names):
        """Returns [[outcome, answer], ...] of the dialed connections: "ok", "silence" or an error.
        The sockets can dial again afterwards."""
        outcomes = []
        for name in names:
            opened = self.sockets[name]
            state = _tcp_state(opened)
            if state == ESTABLISHED:
                outcomes.append(["ok", self._received(opened)])
            elif state == SYN_SENT:
                outcomes.append(["silence", None])
            else:
                error = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                outcomes.append([_name(error) if error else "closed", None])
            _disconnect(opened)
        return outcomes

    def keep(self, listener, name):
        """Keeps an accepted connection as a socket of its own."""
        opened = self._accepted(listener)
        if opened is None:
            return "nothing"
        self.sockets[name] = opened
        return "ok"

    def say(self, says):
        """Sends [[name, mark], ...] over connections, where they exist."""
        for name, mark in says:
            if _tcp_state(self.sockets[name]) == ESTABLISHED:
                self.sockets[name].send(MARK.pack(mark))
        return "ok"

    def receive(self, names):
        return [self._received(self.sockets[name]) for name in names]

    def states(self, names):
        return [_tcp_state(self.sockets[name]) for name in names]

    # --- the process itself ---

    def cgroup(self):
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return next(line[3:].strip() for line in file if line.startswith("0::"))

    def barrier(self, times):
        """Waits until everything that processes on this processor sent over lo before has been
        delivered or refused: the datagram of the barrier follows in the same queue. `times`: repeat
        this, so that answers, and answers to answers, have arrived as well."""
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
        except Exception as error:  # the client raises it again
            answer = {"broken": f"{order}{tuple(arguments)}: {type(error).__name__}: {error}"}
        text = json.dumps(answer).encode()
        socket.send_fds(channel, [text], [leaving.fileno()] if leaving else [])
        if leaving:
            leaving.close()


if __name__ == "__main__":
    sys.exit(main())
