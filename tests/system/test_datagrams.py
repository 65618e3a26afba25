"""UDP between two hosts: tokens as datagrams of the flow itself."""

import unittest

from tests.system.pair import PORT, SERVER4, SERVER6, SharedSecretPair


class Datagrams(SharedSecretPair, unittest.TestCase):
    def serve(self, labels):
        server = self.server.labelled(labels) if labels else self.server.plain()
        server.serve("udp", "::", PORT)
        return server

    def test_same_labels_talk(self):
        server = self.serve("app=web")
        client = self.client.labelled("app=web")
        for address in (SERVER4, SERVER6):
            for _ in range(5):
                self.assertEqual(client.exchange("udp", address, PORT), "ok", address)
        self.assertEqual(server.served("udp", PORT), {"accepted": 10, "bytes": 40})


if __name__ == "__main__":
    unittest.main()
