# SPDX-License-Identifier: Apache-2.0
"""A process that uses sockets as a test orders: it reads one JSON line for each order from stdin
and writes one line with its outcome to stdout.

It runs as a workload or as an unlabeled process. The class Agent in this file is its client.
"""

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

# Copied from waiting.py, which this file cannot import because it runs as a script.
PATIENT = 20.0 if os.environ.get("TRIREME_SLOW") == "1" else 2.0
KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "mptcp": (socket.SOCK_STREAM, socket.IPPROTO_MPTCP),
}
TCP_FASTOPEN_CONNECT = 30  # linux/tcp.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
SOL_MPTCP, MPTCP_INFO = 284, 1  # linux/mptcp.h
# An INIT chunk (RFC 9260, section 3.3.2), without a checksum.
SCTP_INIT = struct.pack("!HHIIBBHIIHHI", 1000, 2000, 0, 0, 1, 0, 20, 1, 65535, 1, 1, 1)


class AgentEnded(AssertionError):
    pass


class Agent:
    """The client, for use in tests."""

    def __init__(self, argv, spawn=subprocess.Popen, program=os.path.abspath(__file__), **options):
        """`spawn` starts `argv` followed by the command line of this file; `program` is the path of
        this file there."""
        self.process = spawn(
            [*argv, "/usr/bin/python3", "-B", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    @property
    def pid(self):
        return self.process.pid

    def send(self, order, *arguments, **named):
        try:
            self.process.stdin.write(json.dumps([order, arguments, named]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AgentEnded(
                f"{' '.join(self.process.args)} ended with {self.process.wait()}"
            ) from None

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise AgentEnded(f"{' '.join(self.process.args)} ended with {self.process.wait()}")
        value = json.loads(line)
        if isinstance(value, dict) and "broken" in value:
            raise AssertionError(value["broken"])
        return value

    def __getattr__(self, order):
        def call(*arguments, **named):
            self.send(order, *arguments, **named)
            return self.answer()

        return call

    def ask(self, name, text):
        """Sends `text` over an open socket. Returns the answer, None if there is none."""
        outcome = self.send_text(name, text)
        if outcome != "ok":
            raise AssertionError(f"{name}: {outcome}")
        return self.receive(name).get("text")

    def end(self):
        """Kills the process with SIGKILL and waits for its end."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _outcome(error):
    if isinstance(error, TimeoutError) and error.errno is None:
        return "timeout"
    return errno.errorcode.get(error.errno, str(error))


class Orders:
    """The orders. Those that return an outcome return "ok" or the name of the error: ECONNREFUSED,
    EHOSTUNREACH, timeout, ..."""

    def __init__(self):
        self.sockets = {}
        self.servers = {}
        self.connections = {}
        self.probes = {}

    # --- single sockets, by name ---

    def open(self, name, kind, address, port=0, listen=None, reuse=True, options=()):
        """Opens a socket, bound to `address` and `port`. Returns the outcome."""
        opened = socket.socket(_family(address), *KINDS[kind])
        try:
            if reuse:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for level, option, value in options:
                opened.setsockopt(level, option, value)
            opened.bind((address, port))
            if listen is not None:
                opened.listen(listen)
        except OSError as error:
            opened.close()
            return _outcome(error)
        self.sockets[name] = opened
        return "ok"

    def port(self, name):
        return self.sockets[name].getsockname()[1]

    def connect(self, name, address, port, timeout=PATIENT):
        return self._try(name, timeout, lambda opened: opened.connect((address, port)))

    def connect_start(self, name, address, port):
        """Starts to connect and returns at once: the connection stays half-open."""
        self.sockets[name].setblocking(False)
        return errno.errorcode.get(self.sockets[name].connect_ex((address, port)), "ok")

    def state(self, name):
        """The state of a TCP socket, numbered as in include/net/tcp_states.h: 1 established, 2
        SYN_SENT, 7 closed."""
        return self.sockets[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def retransmissions(self, name):
        """The number of segments that a TCP socket has retransmitted: tcpi_total_retrans of
        linux/tcp.h."""
        return struct.unpack_from(
            "I", self.sockets[name].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100
        )[0]

    def is_multipath(self, name):
        """True if a connected MPTCP socket has not fallen back to TCP."""
        try:
            return len(self.sockets[name].getsockopt(SOL_MPTCP, MPTCP_INFO, 64)) > 0
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise

    def accept(self, name, new, timeout=PATIENT):
        def take(opened):
            self.sockets[new] = opened.accept()[0]

        return self._try(name, timeout, take)

    def send_text(self, name, text, timeout=PATIENT):
        return self._try(name, timeout, lambda opened: opened.sendall(text.encode()))

    def send_to(self, name, text, address, port):
        return self._try(
            name, PATIENT, lambda opened: opened.sendto(text.encode(), (address, port))
        )

    def send_bytes(self, name, text, address, port):
        """Sends the bytes that `text` gives in hexadecimal."""
        return self._try(
            name, PATIENT, lambda opened: opened.sendto(bytes.fromhex(text), (address, port))
        )

    def receive(self, name, timeout=PATIENT):
        """{"text": ...} or {"error": outcome}. The text is empty at the end of the connection."""
        opened = self.sockets[name]
        opened.settimeout(timeout)
        try:
            return {"text": opened.recv(65536).decode()}
        except OSError as error:
            return {"error": _outcome(error)}

    def join(self, name, group, address="127.0.0.1"):
        """Joins the multicast group on the device that has `address`, and sends multicast from that
        device."""
        self.sockets[name].setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton(group) + socket.inet_aton(address),
        )
        self.sockets[name].setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address)
        )
        return "ok"

    def close(self, name, reset=False):
        opened = self.sockets.pop(name)
        if reset:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opened.close()
        return "ok"

    def shutdown(self, name):
        return self._try(name, PATIENT, lambda opened: opened.shutdown(socket.SHUT_WR))

    def _try(self, name, timeout, action):
        opened = self.sockets[name]
        opened.settimeout(timeout)
        try:
            action(opened)
            return "ok"
        except OSError as error:
            return _outcome(error)

    # --- servers that echo and count ---

    def serve(self, kind, address, port=0, greeting="", options=()):
        """Starts a server and returns its port."""
        server = socket.socket(_family(address), *KINDS[kind])
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for level, option, value in options:
            server.setsockopt(level, option, value)
        server.bind((address, port))
        port = server.getsockname()[1]
        count = {"accepted": 0, "bytes": 0}
        self.servers[f"{kind}/{port}"] = count
        self.sockets[f"server {kind}/{port}"] = server
        if kind != "udp":
            server.listen(1024)
        target = self._udp_server if kind == "udp" else self._tcp_server
        threading.Thread(target=target, args=(server, greeting, count), daemon=True).start()
        return port

    def served(self, kind, port):
        return self.servers[f"{kind}/{port}"]

    def end_served(self, kind, port):
        """Shuts down the accepted connections of a server, on our side only."""
        for connection in self.connections.pop(f"{kind}/{port}", []):
            connection.shutdown(socket.SHUT_RDWR)
        return "ok"

    def stop_serving(self, kind, port):
        server = self.sockets.pop(f"server {kind}/{port}")
        if kind == "tcp":
            server.shutdown(socket.SHUT_RDWR)
        server.close()

    def _tcp_server(self, server, greeting, count):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            count["accepted"] += 1
            self.connections.setdefault(f"tcp/{server.getsockname()[1]}", []).append(connection)
            threading.Thread(
                target=self._tcp_echo, args=(connection, greeting, count), daemon=True
            ).start()

    @staticmethod
    def _tcp_echo(connection, greeting, count):
        try:
            with connection:
                if greeting:
                    connection.sendall(greeting.encode())
                while data := connection.recv(65536):
                    count["bytes"] += len(data)
                    connection.sendall(data)
        except OSError:
            pass

    @staticmethod
    def _udp_server(server, _, count):
        while True:
            try:
                data, sender = server.recvfrom(65536)
            except OSError:
                return
            count["accepted"] += 1
            count["bytes"] += len(data)
            try:
                server.sendto(data, sender)
            except OSError:
                pass

    def serve_ports(self, address, first, count):
        """Serves UDP on many ports, from one thread."""
        selector = selectors.DefaultSelector()
        for port in range(first, first + count):
            server = socket.socket(_family(address), socket.SOCK_DGRAM)
            server.bind((address, port))
            selector.register(server, selectors.EVENT_READ)
        threading.Thread(target=self._echo_ports, args=(selector,), daemon=True).start()
        return "ok"

    @staticmethod
    def _echo_ports(selector):
        while True:
            for key, _ in selector.select():
                data, sender = key.fileobj.recvfrom(65536)
                with contextlib.suppress(OSError):
                    key.fileobj.sendto(data, sender)

    def ask_ports(self, address, first, count, timeout=PATIENT):
        """Sends to many ports from one socket before it reads an answer. Returns how many ports
        have answered."""
        with socket.socket(_family(address), socket.SOCK_DGRAM) as client:
            client.settimeout(timeout)
            client.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
            for port in range(first, first + count):
                client.sendto(str(port).encode(), (address, port))
            answered = set()
            with contextlib.suppress(TimeoutError):
                while len(answered) < count:
                    data, sender = client.recvfrom(65536)
                    if data.decode() == str(sender[1]):
                        answered.add(sender[1])
        return len(answered)

    # --- whole exchanges ---

    def exchange(self, kind, address, port, source=None, timeout=PATIENT, text="ping", options=()):
        """Connects, sends `text` and expects the same text back. Returns the outcome."""
        with socket.socket(_family(address), *KINDS[kind]) as client:
            client.settimeout(timeout)
            try:
                for level, option, value in options:
                    client.setsockopt(level, option, value)
                if source:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    client.bind(tuple(source))
                client.connect((address, port))
                client.sendall(text.encode())
                answer = client.recv(65536).decode()
                while len(answer) < len(text) and (more := client.recv(65536)):
                    answer += more.decode()
            except OSError as error:
                return _outcome(error)
            return "ok" if answer == text else f"unexpected answer {answer!r}"

    def burst(self, address, port, count, timeout, apart=0.0):
        """Runs `count` exchanges concurrently. Returns the number of each outcome, and the
        durations of the successful exchanges in seconds."""
        outcomes, times, lock = {}, [], threading.Lock()

        def one():
            started = time.monotonic()
            outcome = self.exchange("tcp", address, port, timeout=timeout)
            with lock:
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                if outcome == "ok":
                    times.append(time.monotonic() - started)

        threads = [threading.Thread(target=one) for _ in range(count)]
        for thread in threads:
            thread.start()
            time.sleep(apart)
        for thread in threads:
            thread.join()
        return {"outcomes": outcomes, "times": sorted(times)}

    def look_up_and_connect(self, name, server, port, source=0):
        """Resolves the IPv4 address of a name, from port `source` if that is not 0, and connects to
        it as soon as the answer arrives. Returns [address, outcome]."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(PATIENT)
            asking.bind(("", source))
            asking.connect((server, 53))
            labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
            asking.sendall(
                struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0)
                + labels
                + b"\0"
                + struct.pack("!HH", 1, 1)
            )
            address = socket.inet_ntop(socket.AF_INET, asking.recv(4096)[-4:])
        return [address, self.exchange("tcp", address, port)]

    def ping(self, address, timeout=PATIENT / 2):
        """Sends an ICMP echo request from a raw socket, which needs root."""
        six = ":" in address
        protocol = socket.getprotobyname("ipv6-icmp" if six else "icmp")
        with socket.socket(_family(address), socket.SOCK_RAW, protocol) as raw:
            raw.settimeout(timeout)
            identifier = os.getpid() & 0xFFFF
            header = struct.pack("!BBHHH", 128 if six else 8, 0, 0, identifier, 1)
            if not six:
                total = sum(struct.unpack("!4H", header))
                total = (total & 0xFFFF) + (total >> 16)
                header = struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, identifier, 1)
            try:
                raw.sendto(header, (address, 0))
                deadline = time.monotonic() + timeout
                while time.monotonic() < deadline:
                    data = raw.recv(1024)
                    reply = data if six else data[(data[0] & 15) * 4 :]
                    if (
                        reply[0] == (129 if six else 0)
                        and struct.unpack("!H", reply[4:6])[0] == identifier
                    ):
                        return "ok"
            except OSError as error:
                return _outcome(error)
            return "timeout"

    def send_raw(self, address, protocol):
        """Sends a packet of any IP protocol. The outcome is that of the sender's kernel."""
        with socket.socket(_family(address), socket.SOCK_RAW, protocol) as raw:
            try:
                raw.sendto(SCTP_INIT if protocol == 132 else bytes(16), (address, 0))
            except OSError as error:
                return _outcome(error)
        return "ok"

    def send_packet(self, address, packet, priority):
        """Sends an IPv4 packet, given in hexadecimal with its header. `priority` sets
        skb->priority."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, struct.pack("I", priority))
            return raw.sendto(bytes.fromhex(packet), (address, 0))

    def in_child(self, order, *arguments, **named):
        """Runs the order in a grandchild that is in a session of its own."""
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, json.dumps(getattr(self, order)(*arguments, **named)).encode())
            os._exit(0)
        os.close(write)
        os.wait()
        with os.fdopen(read) as pipe:
            return json.loads(pipe.read())

    # --- repeated attempts, until told to stop ---

    def probe(self, name, kind, address, port, timeout=0.5, apart=0.0):
        probe = {
            "stop": False,
            "ok": 0,
            "failed": 0,
            "outcomes": {},
            "longest": 0.0,
            "counted": threading.Condition(),
        }
        probe["thread"] = threading.Thread(
            target=self._probe, args=(probe, kind, address, port, timeout, apart), daemon=True
        )
        self.probes[name] = probe
        probe["thread"].start()

    def probed(self, name):
        """The counts so far. `longest` is the longest time in seconds from a failure to the next
        success."""
        return {key: self.probes[name][key] for key in ("ok", "failed", "outcomes", "longest")}

    def probe_end(self, name, ok=0, failed=0, seconds=60):
        """Ends a probe after it has counted `ok` successes and `failed` failures, or after
        `seconds`. Waiting for counts keeps the speed of the machine from deciding a test."""
        probe = self.probes[name]
        with probe["counted"]:
            probe["counted"].wait_for(
                lambda: probe["ok"] >= ok and probe["failed"] >= failed, seconds
            )
        probe["stop"] = True
        probe["thread"].join()
        return self.probed(name)

    def _probe(self, probe, kind, address, port, timeout, apart):
        broken = None
        while not probe["stop"]:
            if apart:
                time.sleep(apart)
            began = time.monotonic()
            outcome = self.exchange(kind, address, port, timeout=timeout)
            if outcome != "ok":
                broken = broken or began
            elif broken is not None:
                probe["longest"] = max(probe["longest"], began - broken)
                broken = None
            with probe["counted"]:
                probe["ok" if outcome == "ok" else "failed"] += 1
                probe["outcomes"][outcome] = probe["outcomes"].get(outcome, 0) + 1
                probe["counted"].notify()

    # --- the process itself ---

    def cgroup(self):
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            return next(line[3:].strip() for line in file if line.startswith("0::"))

    def run(self, argv, timeout=20):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    orders = Orders()
    for line in sys.stdin:
        order, arguments, named = json.loads(line)
        try:
            outcome = getattr(orders, order)(*arguments, **named)
        except Exception as error:  # the client raises it again
            outcome = {"broken": f"{order}{tuple(arguments)}: {type(error).__name__}: {error}"}
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
