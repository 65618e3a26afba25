# SPDX-License-Identifier: Apache-2.0
"""A workload that talks. It listens on a port that policy opens and on some that it does not open,
and begins flows to other talkers.

Arguments: its index and the number of talkers. A line on stdin sets the rate in flows per second,
or is "report", which is answered by a line on stdout.
"""

import json
import random
import select
import socket
import sys
import threading
import time

OPEN, CLOSED = 20000, 21000  # first ports
PORTS = 20  # closed ports of each talker
TICK = 0.05
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def serve(ports):
    """An echo server."""
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
    """The flows that this talker begins: half of them allowed, half over UDP."""

    def __init__(self, index, count):
        self.index, self.count = index, count
        self.rate = 0.0
        self.lock = threading.Lock()
        self.outcomes = {f"{kind} {what}": {} for kind in KINDS for what in ("allowed", "refused")}

    def work(self):
        due = 0.0
        while True:
            time.sleep(TICK)
            due = min(due + self.rate * TICK, self.rate)  # catches up for at most one second
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
            counts = self.outcomes[f"{kind} {what}"]
            counts[outcome] = counts.get(outcome, 0) + 1

    def report(self):
        with self.lock:
            print(json.dumps(self.outcomes), flush=True)
            for counts in self.outcomes.values():
                counts.clear()


def main():
    index, count = int(sys.argv[1]), int(sys.argv[2])
    ports = [OPEN + index, *(CLOSED + index * PORTS + i for i in range(PORTS))]
    threading.Thread(target=serve, args=(ports,), daemon=True).start()
    talk = Talk(index, count)
    threading.Thread(target=talk.work, daemon=True).start()
    for line in sys.stdin:
        if line == "report\n":
            talk.report()
        else:
            talk.rate = float(line)


if __name__ == "__main__":
    main()
