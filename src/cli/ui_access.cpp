// SPDX-License-Identifier: Apache-2.0
#include "ui_access.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <utility>

#include "trireme/credentials/crypto.hpp"

namespace trireme::cli {
namespace {

Result<std::string> random_text() {
  std::array<std::uint8_t, 32> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return fail_errno("cannot get random bytes");
  }
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text += fmt::format("{:02x}", byte);
  }
  return text;
}

bool is_secret(std::string_view given, const std::string& secret) {
  const auto bytes = [](std::string_view text) {
    return credentials::Bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  return credentials::equal(bytes(given), bytes(secret));
}

}  // namespace

Result<UiAccess> UiAccess::open(std::uint16_t port) {
  UiAccess access;
  access.port_ = port;
  for (std::string* secret : {&access.token_, &access.session_, &access.instance_}) {
    auto text = random_text();
    if (!text) {
      return tl::unexpected(text.error());
    }
    *secret = std::move(*text);
  }
  return access;
}

UiAccess::UiAccess(UiAccess&& other) noexcept
    : port_(other.port_),
      token_(std::move(other.token_)),
      session_(std::move(other.session_)),
      instance_(std::move(other.instance_)),
      used_(other.used_) {}

std::string UiAccess::url() const {
  return fmt::format("http://127.0.0.1:{}/?token={}", port_, token_);
}

Entry UiAccess::enter(const UiRequest& request) {
  bool is_here = false;
  std::string own;
  for (const char* name : {"127.0.0.1", "localhost", "[::1]"}) {
    const std::string host = fmt::format("{}:{}", name, port_);
    if (request.host == host) {
      is_here = true;
      own = "http://" + host;
    }
  }
  if (!is_here) {
    return Entry::wrong_host;
  }
  const bool is_page = request.path == "/";
  // A link to the page may be anywhere; what the page asks for is for the page alone. Browsers send
  // "null" as the origin of pages that have none.
  if ((!request.origin.empty() && request.origin != own) ||
      (!is_page && !request.fetch_site.empty() && request.fetch_site != "same-origin")) {
    return Entry::other_site;
  }
  if (is_page) {
    return enter_page(request);
  }
  return is_secret(request.session, session_) ? Entry::session : Entry::no_session;
}

Entry UiAccess::enter_page(const UiRequest& request) {
  const auto token = request.query.find("token");
  if (token == request.query.end()) {
    return Entry::page;
  }
  if (request.method != "GET" || !is_secret(token->second, token_)) {
    return Entry::no_session;
  }
  const std::lock_guard lock(mutex_);
  return std::exchange(used_, true) ? Entry::used_token : Entry::token;
}

}  // namespace trireme::cli
