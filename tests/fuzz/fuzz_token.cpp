// Any bytes as HELLO or REPLY: no crash, and what is read is written back as the same bytes.
#include <algorithm>
#include <span>

#include "fuzz_support.hpp"
#include "trireme/wire/token.hpp"

namespace {

using namespace trireme;

bool check_message(wire::Message message, std::span<const std::uint8_t> bytes) {
  const auto token = wire::read_token(message, bytes);
  if (!token) {
    fuzz::require(wire::text(token.error()) != nullptr, "a bad token has a reason");
    return false;
  }
  fuzz::require(token->message == message, "a token is the message that was expected");
  fuzz::require(token->tag.size() == (message == wire::Message::reply ? wire::kTagSize : 0), "REPLY alone has a tag");
  std::vector<std::uint8_t> out(bytes.size());
  fuzz::require(wire::write_token(*token, out) == bytes.size(), "what is read can be written");
  fuzz::require(std::equal(out.begin(), out.end(), bytes.begin(), bytes.end()), "it is the same bytes");
  out.pop_back();
  fuzz::require(wire::write_token(*token, out) == 0, "it does not fit into less");
  fuzz::require(!wire::read_token(message, bytes.first(bytes.size() - 1)), "every byte counts");
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const bool hello = check_message(wire::Message::hello, {data, size});
  const bool reply = check_message(wire::Message::reply, {data, size});
  fuzz::require(!hello || !reply, "a message is HELLO or REPLY");
  return 0;
}
