// SPDX-License-Identifier: Apache-2.0
#include "binding.hpp"

#include <algorithm>

#include "judge.hpp"
#include "trireme/abi/abi.hpp"

namespace trireme::handshake {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t kPortAt = 16;
/// Value of the byte after the endpoint: PROOF names no address.
constexpr std::uint8_t kUnbound = 1;

}  // namespace

wire::Ends ends_of_client(const FlowKey& key) {
  return key.role == Role::client
             ? wire::Ends{key.local, key.remote, key.local_port, key.remote_port}
             : wire::Ends{key.remote, key.local, key.remote_port, key.local_port};
}

std::optional<Translation> known_translation(const FlowKey& key, const PacketFacts& facts) {
  const bool is_translated = key.point != kHome || (facts.priority & abi::kAnyNat) != 0;
  const wire::Ends ends = ends_of_client(key);
  return is_translated ? facts.translation : std::optional(Translation{ends, ends});
}

Question about_translation(std::uint8_t protocol, const FlowKey& key, std::uint32_t priority) {
  return {.about = Question::About::translation,
          .protocol = protocol,
          .point = key.point,
          .ends = ends_of_client(key),
          .is_client = key.role == Role::client,
          .is_changed = (priority & abi::kAnyNat) != 0};
}

EndBytes end_bytes(const policy::SocketAddress& end) {
  EndBytes bytes{};
  if (end.address.family == policy::Address::Family::v4) {
    std::ranges::copy(kMapped, bytes.begin());
    std::copy_n(end.address.bytes.begin(), 4, bytes.begin() + kMapped.size());
  } else {
    std::ranges::copy(end.address.bytes, bytes.begin());
  }
  bytes[kPortAt] = static_cast<std::uint8_t>(end.port >> 8U);
  bytes[kPortAt + 1] = static_cast<std::uint8_t>(end.port);
  return bytes;
}

std::string end_text(Bytes end) {
  policy::SocketAddress named;
  if (std::ranges::equal(end.first(kMapped.size()), kMapped)) {
    std::ranges::copy(end.subspan(kMapped.size(), 4), named.address.bytes.begin());
  } else {
    named.address.family = policy::Address::Family::v6;
    std::ranges::copy(end.first(kPortAt), named.address.bytes.begin());
  }
  named.port = static_cast<std::uint16_t>(end[kPortAt] << 8U | end[kPortAt + 1]);
  return named.text();
}

void bind_server(Conversation& conversation, const Translation& flow,
                 const std::vector<policy::Prefix>& host_nat) {
  const policy::Address& remote = conversation.key.remote;
  const wire::Ends& came = flow.before;
  conversation.asked_for = end_bytes({came.destination, came.destination_port});
  conversation.is_unbound = contains(host_nat, remote) || contains(host_nat, came.source);
  conversation.clients = {end_bytes({remote, conversation.key.remote_port}),
                          end_bytes({came.source, came.source_port})};
  if (conversation.is_unbound) {
    conversation.clients = {};
  }
}

void write_reply_start(const Conversation& conversation, std::span<std::uint8_t> text) {
  std::ranges::copy(conversation.asked_for, text.begin());
  text[wire::kEndSize] = conversation.is_unbound ? kUnbound : 0;
}

void expect_proof(Conversation& conversation, PairKeys& keys, const Tag& reply) {
  const auto& [here, came] = conversation.clients;
  const Nonce& nonce = conversation.server_nonce;
  conversation.proof = keys.proof(nonce, reply, here);
  conversation.other_proof = here == came ? conversation.proof : keys.proof(nonce, reply, came);
}

bool proves(const Conversation& conversation, Bytes proof) {
  return conversation.is_prepared && (credentials::equal(proof, conversation.proof) ||
                                      credentials::equal(proof, conversation.other_proof));
}

bool is_asked(const Conversation& conversation, Bytes text, const Translation& flow,
              const std::vector<policy::Prefix>& host_nat) {
  const FlowKey& key = conversation.key;
  if (contains(host_nat, key.remote)) {
    return true;
  }
  // This host itself has chosen each of these, so a relaying neighbor cannot influence them.
  const std::array<policy::SocketAddress, 3> asked = {
      {{key.remote, key.remote_port},
       {flow.before.destination, flow.before.destination_port},
       {flow.after.destination, flow.after.destination_port}}};
  const Bytes named = text.first(wire::kEndSize);
  return std::ranges::any_of(asked, [named](const policy::SocketAddress& end) {
    return std::ranges::equal(end_bytes(end), named);
  });
}

EndBytes client_end(Bytes text, const Translation& flow) {
  return text[wire::kEndSize] == kUnbound ? EndBytes{}
                                          : end_bytes({flow.after.source, flow.after.source_port});
}

}  // namespace trireme::handshake
