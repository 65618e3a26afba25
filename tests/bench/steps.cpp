// SPDX-License-Identifier: Apache-2.0
// Measures the cryptography of a handshake alone: keys, seal and tags of both ends, and the nonces,
// between hosts that have verified each other's credentials before. Prints JSON: nanoseconds of
// processor time for both ends together, the median of many turns. Does not need root.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "trireme/credentials/trust.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {
namespace {

constexpr std::size_t kTurns = 51;
constexpr std::size_t kEach = 2000;
constexpr std::size_t kLabels = 27;  // bytes, as in "app=web\nenv=production\n"

double processor_time() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

/// The cryptography of both hosts for one connection.
struct Pair {
  credentials::Random random = credentials::Random::open().value();
  credentials::Aead aead;
  Digest client = credentials::sha256({std::array<std::uint8_t, 1>{1}});
  Digest server = credentials::sha256({std::array<std::uint8_t, 1>{2}});
  PairKeys here{Key{3}, client, server};
  PairKeys there{Key{3}, client, server};
  Said hello{{wire::CredentialType::psk, 0, {}}, client};
  Shape reply{wire::CredentialType::psk, 0, {}};
  EndBytes end{};

  void exchange() {
    std::array<std::uint8_t, wire::kReplyStart + kLabels> text{};
    std::array<std::uint8_t, text.size()> opened{};
    Nonce client_nonce{};
    Nonce server_nonce{};
    Tag tag{};
    const bool drawn = random.fill(client_nonce) && random.fill(server_nonce);
    seal_reply(aead, there.reply_key(client_nonce, server_nonce), {hello, reply}, text, tag);
    const Tag expected = there.proof(server_nonce, tag, end);
    const bool opens = open_reply(aead, here.reply_key(client_nonce, server_nonce), {hello, reply},
                                  text, tag, opened);
    const Tag proof = here.proof(server_nonce, tag, end);
    if (!drawn || !opens || !credentials::equal(proof, expected)) {
      std::abort();
    }
  }
};

double median_of_turns() {
  Pair pair;
  std::vector<double> turns;
  for (std::size_t turn = 0; turn < kTurns; turn++) {
    const double began = processor_time();
    for (std::size_t i = 0; i < kEach; i++) {
      pair.exchange();
    }
    turns.push_back((processor_time() - began) / kEach);
  }
  std::ranges::nth_element(turns, turns.begin() + kTurns / 2);
  return turns[kTurns / 2];
}

}  // namespace
}  // namespace trireme::handshake

int main() {
  fmt::print("{{\"handshake_ns\": {:.0f}}}\n", trireme::handshake::median_of_turns());
  return 0;
}
