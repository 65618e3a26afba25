// SPDX-License-Identifier: Apache-2.0
// Answers of name servers, in datagrams and in arbitrarily split TCP segments. The result cannot
// be larger than the input allows.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "trireme/names/reader.hpp"

using trireme::names::Answer;

namespace {

void check(const Answer& answer, std::size_t size) {
  // A record takes at least 12 bytes, a name at least as many as its text.
  const bool plausible =
      !answer.addresses.empty() && answer.addresses.size() <= size / 12 &&
      answer.name.size() <= 255 && std::ranges::all_of(answer.name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
      });
  if (!plausible) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (const auto answer = trireme::names::read_answer({data, size})) {
    check(*answer, size);
  }
  // Each packet is preceded by its length.
  trireme::names::Reader reader;
  for (std::span<const std::uint8_t> rest(data, size); rest.size() >= 2;) {
    const std::size_t length =
        std::min<std::size_t>(std::size_t{rest[0]} << 8U | rest[1], rest.size() - 2);
    const std::vector<std::uint8_t> packet(rest.begin() + 2,
                                           rest.begin() + 2 + static_cast<std::ptrdiff_t>(length));
    for (const Answer& answer : reader.read(packet, packet.size()).answers) {
      check(answer, size);
    }
    rest = rest.subspan(2 + length);
  }
  if (reader.buffered() > size) {
    std::abort();
  }
  return 0;
}
