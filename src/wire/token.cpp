#include "trireme/wire/token.hpp"

#include <algorithm>

#include "bytes.hpp"

namespace trireme::wire {
namespace {

/// Offsets in the header.
constexpr std::size_t kVersionAt = 8, kMessageAt = 9, kTypeAt = 10, kFlagsAt = 11, kNonceAt = 12, kCredentialLengthAt = 28,
                      kLabelsLengthAt = 30;

bool is_possible(CredentialType type, std::size_t length) {
  constexpr std::size_t kPskHash = 8, kHostName = 64, kLocalName = 16;
  switch (type) {
    case CredentialType::certificate:
      return length >= 1 && length <= kMaxToken;
    case CredentialType::psk:
      return length > kPskHash && length <= kPskHash + kHostName;
    case CredentialType::local:
      return length == kLocalName;
  }
  return false;
}

std::size_t tag_size(Message message) {
  return message == Message::reply ? kTagSize : 0;
}

bool is_writable(const Token& token) {
  return (token.message == Message::hello || token.message == Message::reply) && token.flags == 0 &&
         is_possible(token.type, token.credential.size()) && token.labels.size() <= 0xFFFF && token.tag.size() == tag_size(token.message);
}

}  // namespace

const char* text(BadToken bad) {
  switch (bad) {
    case BadToken::no_token:
      return "no token";
    case BadToken::truncated:
      return "lengths that do not add up";
    case BadToken::version:
      return "another protocol version";
    case BadToken::message:
      return "a message that does not belong here";
    case BadToken::credential:
      return "a credential of unknown type or impossible length";
    case BadToken::flags:
      return "unknown flags";
  }
  return "bad token";
}

tl::expected<Token, BadToken> read_token(Message expected, std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kMagic.size() || !std::equal(kMagic.begin(), kMagic.end(), bytes.begin())) {
    return tl::unexpected(BadToken::no_token);
  }
  if (bytes.size() < kTokenHeader) {
    return tl::unexpected(BadToken::truncated);
  }
  if (bytes[kVersionAt] != kVersion) {
    return tl::unexpected(BadToken::version);
  }
  if (bytes[kMessageAt] != static_cast<std::uint8_t>(expected)) {
    return tl::unexpected(BadToken::message);
  }
  const auto type = static_cast<CredentialType>(bytes[kTypeAt]);
  const std::size_t credential = read16(bytes, kCredentialLengthAt);
  const std::size_t labels = read16(bytes, kLabelsLengthAt);
  if (!is_possible(type, credential)) {
    return tl::unexpected(BadToken::credential);
  }
  if (bytes[kFlagsAt] != 0) {
    return tl::unexpected(BadToken::flags);
  }
  if (bytes.size() != kTokenHeader + credential + labels + tag_size(expected)) {
    return tl::unexpected(BadToken::truncated);
  }
  const auto body = bytes.subspan(kTokenHeader);
  return Token{expected,
               type,
               bytes[kFlagsAt],
               bytes.subspan<kNonceAt, kNonceSize>(),
               body.first(credential),
               body.subspan(credential, labels),
               body.subspan(credential + labels)};
}

std::size_t write_token(const Token& token, std::span<std::uint8_t> out) {
  const std::size_t size = kTokenHeader + token.credential.size() + token.labels.size() + token.tag.size();
  if (!is_writable(token) || size > out.size()) {
    return 0;
  }
  std::copy(kMagic.begin(), kMagic.end(), out.begin());
  out[kVersionAt] = kVersion;
  out[kMessageAt] = static_cast<std::uint8_t>(token.message);
  out[kTypeAt] = static_cast<std::uint8_t>(token.type);
  out[kFlagsAt] = token.flags;
  std::copy(token.nonce.begin(), token.nonce.end(), out.begin() + kNonceAt);
  write16(out, kCredentialLengthAt, token.credential.size());
  write16(out, kLabelsLengthAt, token.labels.size());
  auto end = std::copy(token.credential.begin(), token.credential.end(), out.begin() + kTokenHeader);
  end = std::copy(token.labels.begin(), token.labels.end(), end);
  std::copy(token.tag.begin(), token.tag.end(), end);
  return size;
}

}  // namespace trireme::wire
