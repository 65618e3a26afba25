# SPDX-License-Identifier: Apache-2.0
"""Between networks of one host: bridge containers, the host's own network, and published ports. The
daemon serves both ends. It sends one message, which contains no labels and nothing that a neighbor
could use."""

import json
import re
import textwrap
import unittest

from tests.system import waiting
from tests.system.host import kill_quietly
from tests.system.lab import LabCase

# The lab's own Python, in a container.
PYTHON = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro -v /opt/try:/try:ro"
PORT = 7050

SCRIPT = """
import select, socket, struct, sys, time

def sockets(kind, address, port):
    for each in kind.split('+'):
        s = socket.socket(socket.AF_INET, dict(tcp=socket.SOCK_STREAM, udp=socket.SOCK_DGRAM)[each])
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if each == 'tcp':
            s.listen(64)
        yield s

def serve(kind, address, port):  # answers all requests; prints datagrams
    listening = list(sockets(kind, address, int(port)))
    print('ready', flush=True)
    while True:
        for s in select.select(listening, [], [])[0]:
            if s.type == socket.SOCK_STREAM:
                s, _ = s.accept()
                s.settimeout(2)
                try:
                    s.sendall(s.recv(100))
                except OSError:
                    pass
                s.close()
            else:
                data, peer = s.recvfrom(2000)
                print('got', data.hex(), flush=True)
                s.sendto(data, peer)

def ask(kind, address, port):  # "served", or the error
    if kind == 'tcp':
        try:
            with socket.create_connection((address, int(port)), 3) as s:
                s.sendall(b'query')
                print('served' if s.recv(100) == b'query' else 'other')
        except OSError as error:
            print(type(error).__name__)
        return
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, int(port)))
    s.settimeout(1)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            s.send(b'query')
            print('served' if s.recv(100) == b'query' else 'other')
            return
        except PermissionError as error:  # in quarantine until it is enrolled
            last = type(error).__name__
            select.select([s], [], [], 0.05)
        except OSError as error:
            last = type(error).__name__
    print(last)

def watch(device):  # prints the messages of the protocol on the link
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    s.bind((device, 0))
    print('ready', flush=True)
    while True:
        data = s.recv(4000)
        at = data.find(b'\\x89TRIREME')
        if at >= 0:
            print('tcp' if data[9] == 6 else 'udp', data[at + 9], len(data) - at, flush=True)

def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff

def packet(protocol, source, server, port, data):  # a SYN or a datagram, with its IP header
    own = socket.inet_aton(source) + socket.inet_aton(server)
    if protocol == 6:
        head, at = struct.pack('!HHIIBBHHH', 41000, port, 7, 0, 5 << 4, 2, 65535, 0, 0), 16
    else:
        head, at = struct.pack('!HHHH', 41000, port, 8 + len(data), 0), 6
    sum_of = checksum(own + struct.pack('!BBH', 0, protocol, len(head + data)) + head + data)
    body = head[:at] + struct.pack('!H', sum_of) + head[at + 2:] + data
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + own
    return ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:] + body

def relay(server, hardware, port):
    # Relays a client's messages to the server below the rules of its own host, which needs
    # CAP_NET_RAW, and then sends a request from its own address.
    port, hardware = int(port), bytes.fromhex(hardware.replace(':', ''))
    link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    link.bind(('eth0', 0x0800))
    me = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    me.connect((server, port))
    own = me.getsockname()[0]
    print('ready', flush=True)
    seen = set()
    while True:
        data = link.recv(4000)
        head = (data[0] & 15) * 4
        at = data.find(b'\\x89TRIREME')
        if data[12:16] == socket.inet_aton(server):
            flags = data[head + 13] & 0x12 if data[9] == 6 else 0
            if (data[9] == 6 and flags == 0x12) or (data[9] == 17 and data[head + 8:] == b'query'):
                print('served', flush=True)
        elif at >= 0 and data[16:20] == socket.inet_aton(own) and data[at:] not in seen:
            seen.add(data[at:])
            for say in (data[at:at + 28], b'query') if data[9] == 17 else (data[at:at + 28],):
                frame = packet(data[9], own, server, port, say)
                link.sendto(frame, ('eth0', 0x0800, 0, 0, hardware))
            print('passed', 'tcp' if data[9] == 6 else 'udp', flush=True)

globals()[sys.argv[1]](*sys.argv[2:])
"""


class Rendezvous(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.lab.write("/opt/try/try.py", textwrap.dedent(SCRIPT))

    def container(self, options, *command):
        """Starts a detached container. Returns its id."""
        line = " ".join(command)
        started = self.lab.must(
            f"docker run -d {PYTHON} {options} busybox /usr/bin/python3 /try/try.py {line}"
        )
        self.lab.await_state(started, "enforced")
        waiting.until(lambda: "ready" in self.output(started), "it is ready")
        return started

    def server(self, options, address="0.0.0.0", kind="tcp+udp"):
        return self.container(options, "serve", kind, address, str(PORT))

    def output(self, container):
        return self.lab.must(f"docker logs {container}")

    def address(self, container):
        shown = f"docker inspect -f '{{{{.NetworkSettings.IPAddress}}}}' {container}"
        return self.lab.must(shown)

    def gateway(self):
        shown = self.lab.must("ip -j -4 addr show dev docker0")
        return json.loads(shown)[0]["addr_info"][0]["local"]

    def ask(self, options, kind, address, port=PORT):
        """Runs one request in a client of its own."""
        return self.lab.must(
            f"docker run --rm {PYTHON} {options} busybox "
            f"/usr/bin/python3 /try/try.py ask {kind} {address} {port}"
        )

    def assert_by_labels(
        self, address, port=PORT, clients=("", "--net=host"), kinds=("tcp", "udp")
    ):
        for kind in kinds:
            for network in clients:
                where = f"{kind} {network} to {address}"
                self.assertEqual(
                    self.ask(f"{network} -l app=web", kind, address, port), "served", where
                )
                for labels in ("-l app=other", ""):
                    answer = self.ask(f"{network} {labels}", kind, address, port)
                    self.assertNotIn(answer, ("served", "other"), f"{where} {labels}")

    def run_python(self, *arguments):
        """Starts Python on the host. The returned function ends it and returns the lines that it
        wrote."""
        written = self.lab.directory + "/written"
        with open(written, "w", encoding="ascii") as out:
            process = self.lab.popen(
                ["/usr/bin/python3", "/opt/try/try.py", *arguments], stdout=out
            )
        self.addCleanup(kill_quietly, process)

        def lines():
            with open(written, encoding="ascii") as file:
                return file.read().splitlines()

        def end():
            kill_quietly(process)
            return [line.split() for line in lines()[1:]]

        waiting.until(lines, "it is ready")
        return end

    def test_a_bridge_container(self):
        server = self.server("-l app=web")
        said = self.run_python("watch", "docker0")
        self.assert_by_labels(self.address(server))
        messages = {(protocol, int(message), int(size)) for protocol, message, size in said()}
        self.assertEqual(
            messages, {("tcp", 6, 28), ("udp", 6, 28), ("udp", 4, 28)}, "MEET, and READY of UDP"
        )

    def test_a_flow_between_two_containers_is_reported_once(self):
        """Both ends are enforcement points of this host, and both report it."""
        address = self.address(self.server("-l app=once"))
        self.assertNotIn(self.ask("--name asker -l app=asker", "udp", address), ("served", "other"))
        asked = "trirectl flows --json --to app=once --from app=asker --protocol udp"
        waiting.until(lambda: self.lab.must(asked), "it is reported")
        waiting.stays(  # the other end reports it, too
            lambda: len(self.lab.must(asked).splitlines()) == 1, "it is one flow", 3
        )
        flow = json.loads(self.lab.must(asked))
        self.assertEqual(flow["verdicts"], {"source": "deny", "destination": "deny"})
        self.assertEqual(flow["source"]["workload"], "asker", "also where the server reports it")
        for end in ("source", "destination"):
            self.assertNotIn("host", flow[end], "no other host vouches for it")
        self.assertEqual(json.loads(self.lab.must(asked + " --summary"))["count"], 1)

    def test_an_allowed_flow_between_two_containers_is_one_sample(self):
        address = self.address(self.server("-l app=sampled"))
        self.assertEqual(self.ask("--name sampler -l app=sampled", "tcp", address), "served")
        asked = "trirectl flows --all --json --from app=sampled --protocol tcp"
        waiting.until(lambda: self.lab.must(asked), "it is reported")
        waiting.stays(  # the other end reports it, too
            lambda: len(self.lab.must(asked).splitlines()) == 1, "it is one flow", 3
        )
        flow = json.loads(self.lab.must(asked))
        self.assertTrue(flow["sampled"])
        self.assertEqual(flow["verdicts"], {"source": "allow", "destination": "allow"})
        self.assertEqual(flow["source"]["workload"], "sampler")
        self.assertEqual(flow["destination"]["labels"]["app"], "sampled")

    def test_a_server_on_the_hosts_network(self):
        self.server("--net=host -l app=web")
        self.assert_by_labels(self.gateway(), clients=("",))

    def translate(self, server, masked=""):
        """Connections to 198.51.100.9, port 7060, lead to the server."""
        if "198.51.100.9" not in self.lab.must("ip -4 addr show dev lo"):
            self.lab.must("ip addr add 198.51.100.9/32 dev lo")
            self.addCleanup(self.lab.must, "ip addr del 198.51.100.9/32 dev lo")
            self.addCleanup(self.lab.sh, "nft delete table ip published")
        turned = f"ip daddr 198.51.100.9 meta l4proto {{ tcp, udp }} th dport 7060 dnat to {server}"
        rules = (
            "table ip published {\n"
            f"chain arrives {{ type nat hook prerouting priority -100; {turned}; }}\n"
            f"chain begins {{ type nat hook output priority -100; {turned}; }}\n"
            f"chain leaves {{ type nat hook postrouting priority 100; {masked}; }}\n}}\n"
        )
        self.lab.sh("nft delete table ip published")
        self.lab.write("/opt/try/nat.nft", rules)
        self.lab.must("nft -f /opt/try/nat.nft")

    def test_a_connection_that_is_translated_counts_once(self):
        """Both its ends have a socket here, with other addresses. The packaged unit may start the
        process that reads the bytes."""
        server = self.lab.must("docker run -d -l app=web busybox nc -ll -p 7051 -e cat")
        self.lab.await_state(server, "enforced")
        self.translate(f"{self.address(server)}:7051")

        def counted():
            answer = json.loads(self.lab.must("trirectl top --json"))
            return [pair for pair in answer["pairs"] if pair["connections"]]

        for options in ("", "--net=host"):
            keep = "until nc 198.51.100.9 7060 -e sleep 600; do sleep 0.2; done"
            client = self.lab.must(f"docker run -d {options} -l app=web busybox sh -c '{keep}'")
            (pair,) = waiting.until(counted, "the connection", 30, 0.3)
            self.assertEqual(
                (pair["from"], pair["to"], pair["connections"]), ("app=web", "app=web", 1), options
            )
            self.assertIn("bytes", pair)
            self.lab.must(f"docker rm -f {client}")
            waiting.until(lambda: not counted(), "its end", 30, 0.3)

    def test_what_this_host_translates(self):
        """As with a published port without a proxy: the host translates both the destination and
        the source."""
        address = self.address(self.server("-l app=web"))
        for masked in ("", "oif docker0 masquerade"):
            self.translate(f"{address}:{PORT}", masked)
            self.assert_by_labels("198.51.100.9", 7060, clients=("",))
            # Behind NAT on OUTPUT, an answer is not matched to the connected UDP socket.
            self.assert_by_labels("198.51.100.9", 7060, ("--net=host",), ("tcp",))

    def test_nothing_reaches_whom_policy_does_not_name(self):
        """An unlabeled process at an address of the host receives no datagram from the workload, of
        the application or of the protocol."""
        gateway = self.gateway()
        end = self.run_python("serve", "tcp+udp", gateway, str(PORT))
        for kind in ("tcp", "udp"):
            self.assertNotIn(self.ask("-l app=web", kind, gateway), ("served", "other"))
        self.lab.policy('[[allow]]\nfrom = "app=web"\nto = "@world"\n')
        self.addCleanup(self.lab.policy, "")
        for kind in ("tcp", "udp"):
            self.assertEqual(self.ask("-l app=web", kind, gateway), "served", kind)
        got = {bytes.fromhex(line[1]) for line in end() if len(line) == 2}
        self.assertEqual(got, {b"query"})

    def test_what_a_neighbour_passes_on_is_refused(self):
        """The client may send to the neighbor, which sends what it received to the server at
        once."""
        server = self.server("-l app=web")
        address = self.address(server)
        hardware = f"docker inspect -f '{{{{.NetworkSettings.MacAddress}}}}' {server}"
        self.lab.policy('[[allow]]\nfrom = "app=web"\nto = "app=between"\n')
        self.addCleanup(self.lab.policy, "")
        between = self.container(
            "--cap-add NET_RAW -l app=between", "relay", address, self.lab.must(hardware), str(PORT)
        )
        for kind in ("tcp", "udp"):
            self.ask("-l app=web", kind, self.address(between))
            waiting.until(
                lambda: f"passed {kind}" in self.output(between), "the neighbor has tried", 20
            )
            waiting.until(
                lambda: re.search(
                    f"relays the handshake.*{kind}|{kind}.*relays the handshake",
                    self.lab.must("trirectl flows --json"),
                ),
                "it is reported",
            )
        self.assertNotIn("served", self.output(between))
        self.assertEqual(self.ask("-l app=web", "tcp", address), "served")


if __name__ == "__main__":
    unittest.main()
