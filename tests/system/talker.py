# SPDX-License-Identifier: Apache-2.0
"""A workload that talks: it listens on a port that policy opens and on some that it does not, and begins flows to others like it.

Arguments: its index, and how many there are. A line on stdin is a rate, or "tell"; the answer to that is a line on stdout.
"""

import json
import random
import select
import socket
import sys
import threading
import time

OPEN, CLOSED = 20000, 21000  # first ports
PORTS = 20  # closed ones of each
TICK = 0.05
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def serve(ports):
    """Echoes."""
    poll = select.epoll()
    servers = {}
    for kind, port in [(kind, port) for kind in KINDS for port in ports]:
        server = socket.socket(socket.AF_INET, KINDS[kind])
        server.bind(("127.0.0.1", port))
        if kind == "tcp":
            server.listen(1024)
        servers[server.fileno()] = (kind, server)
        poll.register(server, select.EPOLLIN)
    print(flush=True)
    while True:
        for descriptor, _ in poll.poll():
            kind, server = servers[descriptor]
            if kind == "tcp":
                with server.accept()[0] as connection:
                    connection.sendall(b"x")
            else:
                data, sender = server.recvfrom(16)
                server.sendto(data, sender)


def attempt(kind, port):
    with socket.socket(socket.AF_INET, KINDS[kind]) as client:
        client.settimeout(20)
        try:
            client.connect(("127.0.0.1", port))
            if kind == "udp":
                client.send(b"x")
            return "ok" if client.recv(16) == b"x" else "nothing"
        except OSError as error:
            return type(error).__name__


class Talk:
    """Half of it allowed, half by UDP."""

    def __init__(self, index, count):
        self.index, self.count = index, count
        self.rate = 0.0
        self.lock = threading.Lock()
        self.outcomes = {f"{kind} {what}": {} for kind in KINDS for what in ("allowed", "refused")}

    def work(self):
        due = 0.0
        while True:
            time.sleep(TICK)
            due = min(
                due + self.rate * TICK, self.rate
            )  # what is missed is made up for within a second
            while due >= 1:
                due -= 1
                self.one()

    def one(self):
        other = (self.index + random.randrange(1, self.count)) % self.count
        kind = random.choice(("tcp", "udp"))
        what = random.choice(("allowed", "refused"))
        outcome = attempt(
            kind,
            OPEN + other if what == "allowed" else CLOSED + other * PORTS + random.randrange(PORTS),
        )
        with self.lock:
            told = self.outcomes[f"{kind} {what}"]
            told[outcome] = told.get(outcome, 0) + 1

    def tell(self):
        with self.lock:
            print(json.dumps(self.outcomes), flush=True)
            for told in self.outcomes.values():
                told.clear()


def main():
    index, count = int(sys.argv[1]), int(sys.argv[2])
    ports = [OPEN + index, *(CLOSED + index * PORTS + i for i in range(PORTS))]
    threading.Thread(target=serve, args=(ports,), daemon=True).start()
    talk = Talk(index, count)
    threading.Thread(target=talk.work, daemon=True).start()
    for line in sys.stdin:
        if line == "tell\n":
            talk.tell()
        else:
            talk.rate = float(line)


if __name__ == "__main__":
    main()
