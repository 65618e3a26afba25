# SPDX-License-Identifier: Apache-2.0
"""TCP segments in IPv4 packets, built and parsed byte by byte, for sending what a hostile peer can
put on the wire. Tokens are as in docs/protocol.md."""

import dataclasses
import socket
import struct

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MAGIC = b"\x89TRIREME"
HELLO, REPLY = 1, 2
OPTIONS = bytes.fromhex("020405b4 01030307 0402080a 0000000900000000 0101".replace(" ", ""))[:20]


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclasses.dataclass
class Segment:
    source: str
    destination: str
    sport: int
    dport: int
    flags: int
    seq: int = 0
    ack: int = 0
    options: bytes = b""
    data: bytes = b""
    window: int = 64240

    def packet(self):
        options = self.options + b"\1" * (-len(self.options) % 4)
        header = struct.pack(
            "!HHIIBBHHH",
            self.sport,
            self.dport,
            self.seq & 0xFFFFFFFF,
            self.ack & 0xFFFFFFFF,
            (20 + len(options)) // 4 << 4,
            self.flags,
            self.window,
            0,
            0,
        )
        tcp = header + options + self.data
        ends = socket.inet_aton(self.source) + socket.inet_aton(self.destination)
        total = checksum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
        ip = (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, socket.IPPROTO_TCP, 0)
            + ends
        )
        return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp

    @property
    def token(self):
        """The token in a segment, None if it has none."""
        return self.data[9] if self.data[:8] == MAGIC else None

    @property
    def proof(self):
        """The tag of a PROOF option."""
        at = 0
        while at + 1 < len(self.options) and self.options[at] != 0:
            if self.options[at] == 1:
                at += 1
                continue
            if self.options[at : at + 4] == b"\xfd\x14T3":
                return self.options[at + 4 : at + 20]
            at += max(self.options[at + 1], 1)
        return None

    def changed(self, **fields):
        return dataclasses.replace(self, **fields)


def proof_option(tag):
    return b"\xfd\x14T3" + tag


def parse(packet):
    """None if the packet is not TCP over IPv4."""
    start = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or len(packet) < start + 20 or packet[9] != socket.IPPROTO_TCP:
        return None
    packet = packet[: struct.unpack("!H", packet[2:4])[0]]
    sport, dport, seq, ack, offset, flags, window = struct.unpack(
        "!HHIIBBH", packet[start : start + 16]
    )
    data = start + (offset >> 4) * 4
    return Segment(
        socket.inet_ntoa(packet[12:16]),
        socket.inet_ntoa(packet[16:20]),
        sport,
        dport,
        flags & 0x3F,
        seq,
        ack,
        packet[start + 20 : data],
        packet[data:],
        window,
    )


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
