// SPDX-License-Identifier: Apache-2.0
// Any bytes as HELLO or REPLY, in a segment or in a datagram, and as PROOF or READY: no crash, and
// a token that can be read is written back as the same bytes.
#include <algorithm>
#include <array>
#include <span>

#include "fuzz_support.hpp"
#include "trireme/wire/control.hpp"
#include "trireme/wire/token.hpp"

namespace {

using namespace trireme;

bool check_message(wire::Message message, std::span<const std::uint8_t> bytes) {
  const auto token = wire::read_token(message, bytes);
  if (!token) {
    fuzz::require(wire::text(token.error()) != nullptr, "a bad token has a reason");
    return false;
  }
  fuzz::require(token->message == message, "a token is of the expected message");
  fuzz::require(token->tag.size() == (message == wire::Message::hello ? 0 : wire::kTagSize),
                "only REPLY has a tag");
  std::vector<std::uint8_t> out(bytes.size());
  fuzz::require(wire::write_token(*token, out) == bytes.size(),
                "a token that was read can be written");
  fuzz::require(std::equal(out.begin(), out.end(), bytes.begin(), bytes.end()),
                "a token is written as the same bytes");
  out.pop_back();
  fuzz::require(wire::write_token(*token, out) == 0, "a token does not fit into a smaller buffer");
  fuzz::require(!wire::read_token(message, bytes.first(bytes.size() - 1)),
                "a truncated token is refused");
  return true;
}

bool check_datagram(wire::Message message, std::span<const std::uint8_t> bytes) {
  const auto token = wire::read_datagram_token(message, bytes);
  if (!token) {
    fuzz::require(wire::text(token.error()) != nullptr, "a bad token has a reason");
    return false;
  }
  fuzz::require((token->flags & wire::kDatagram) != 0,
                "a token in a datagram has the datagram flag");
  std::vector<std::uint8_t> out(wire::kMaxControl, 0xFF);
  const std::size_t size = wire::write_datagram_token(*token, out);
  const bool fits = bytes.size() <= wire::kMaxControl;
  fuzz::require(!fits || size != 0, "a token that was read and fits can be written");
  fuzz::require(message == wire::Message::hello ? size == 0 || size == wire::kHelloDatagram
                                                : size == 0 || size == bytes.size(),
                "only HELLO is padded");
  fuzz::require(size == 0 || std::equal(out.begin(),
                                        out.begin() + static_cast<std::ptrdiff_t>(
                                                          std::min(size, bytes.size())),
                                        bytes.begin()),
                "a token is written as the same bytes");
  return true;
}

bool check_tag(wire::Message message, std::span<const std::uint8_t> bytes) {
  const auto read = wire::read_tag_message(message, bytes);
  if (!read) {
    return false;
  }
  std::array<std::uint8_t, wire::kTagDatagram> out{};
  wire::write_tag_message(*read, out);
  fuzz::require(std::equal(out.begin(), out.end(), bytes.begin(), bytes.end()),
                "a token is written as the same bytes");
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const bool hello = check_message(wire::Message::hello, {data, size});
  const bool reply = check_message(wire::Message::reply, {data, size}) ||
                     check_message(wire::Message::refusal, {data, size});
  const bool in_datagram = check_datagram(wire::Message::hello, {data, size}) ||
                           check_datagram(wire::Message::reply, {data, size}) ||
                           check_datagram(wire::Message::refusal, {data, size});
  const bool tag = check_tag(wire::Message::proof, {data, size}) ||
                   check_tag(wire::Message::ready, {data, size});
  fuzz::require(hello + reply + in_datagram + tag <= 1, "a message is of at most one kind");
  return 0;
}
