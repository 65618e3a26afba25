# SPDX-License-Identifier: Apache-2.0
"""A name server that a test controls. The same file runs as a process, which reads names and their
answers from lines on stdin, and builds DNS messages.

Debian's dnsmasq is used where answers are ordinary; this server gives unusual ones.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading

A, CNAME, AAAA = 1, 5, 28
TYPES = {"A": A, "CNAME": CNAME, "AAAA": AAAA}


def wire_name(name):
    return (
        b"".join(
            bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".") if label
        )
        + b"\0"
    )


def record(owner, kind, value, ttl=0):
    """`owner` None: a pointer to the name in the question."""
    data = (
        wire_name(value)
        if kind == "CNAME"
        else socket.inet_pton(socket.AF_INET6 if kind == "AAAA" else socket.AF_INET, value)
    )
    name = b"\xc0\x0c" if owner is None else wire_name(owner)
    return name + struct.pack("!HHIH", TYPES[kind], 1, ttl, len(data)) + data


def message(identifier, question, answers, additional=(), kind=A, flags=0x8180):
    return (
        struct.pack("!HHHHHH", identifier, flags, 1, len(answers), 0, len(additional))
        + wire_name(question)
        + struct.pack("!HH", kind, 1)
        + b"".join(record(*each) for each in (*answers, *additional))
    )


def read_question(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    return ".".join(labels).lower(), kind


class Answers:
    """The answers to questions: `zone` maps a name to {"answers": [[owner, type, value, ttl]...],
    "additional": [...], "raw": hex after the identifier, "turn": [address...] one after the
    other}."""

    def __init__(self, zone):
        self.zone = zone
        self.turns = {}

    def answer(self, query):
        name, kind = read_question(query)
        entry = self.zone.get(name, {})
        identifier = struct.unpack("!H", query[:2])[0]
        if "raw" in entry:
            return query[:2] + bytes.fromhex(entry["raw"])
        if "turn" in entry:
            turn = self.turns[name] = self.turns.get(name, -1) + 1
            address = entry["turn"][turn % len(entry["turn"])]
            return message(
                identifier, name, [[None, "A", address, 0]] if kind == A else [], kind=kind
            )
        answers = [each for each in entry.get("answers", []) if TYPES[each[1]] in (kind, CNAME)]
        return message(
            identifier, entry.get("question", name), answers, entry.get("additional", ()), kind=kind
        )


def serve_udp(server, answers):
    while True:
        query, sender = server.recvfrom(4096)
        with contextlib.suppress(
            UnicodeDecodeError, IndexError, struct.error
        ):  # not a query, but a token, for example
            server.sendto(answers.answer(query), sender)


def serve_tcp(server, answers):
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve_connection, args=(connection, answers), daemon=True).start()


def serve_connection(connection, answers):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while prefix := connection.recv(2, socket.MSG_WAITALL):
            answer = answers.answer(
                connection.recv(struct.unpack("!H", prefix)[0], socket.MSG_WAITALL)
            )
            data = struct.pack("!H", len(answer)) + answer
            for at in (0, 1, 2, 3, 40):  # splits the length and the message into several segments
                connection.sendall(data[at : {0: 1, 1: 2, 2: 3, 3: 40, 40: None}[at]])


def main(addresses):
    answers = Answers(json.loads(sys.stdin.readline()))
    for address in addresses.split(","):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        datagrams, connections = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family)
        connections.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (datagrams, connections):
            each.bind((address, 53))
        connections.listen(16)
        for target, server in ((serve_udp, datagrams), (serve_tcp, connections)):
            threading.Thread(target=target, args=(server, answers), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def start(spawn, addresses, zone, prefix=()):
    """Starts the server and returns its process when it answers. `spawn` is subprocess.Popen or a
    function that runs it elsewhere. The source is passed on the command line, because the file may
    not exist there."""
    with open(os.path.abspath(__file__), encoding="utf-8") as file:
        process = spawn(
            [*prefix, "/usr/bin/python3", "-B", "-c", file.read(), ",".join(addresses)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    process.stdin.write(json.dumps(zone) + "\n")
    process.stdin.flush()
    assert process.stdout.readline().strip() == "ready", f"no name server at {addresses}"
    return process


if __name__ == "__main__":
    main(*sys.argv[1:])
