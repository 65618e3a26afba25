// SPDX-License-Identifier: Apache-2.0
// Who may have the page of `trirectl ui`: the browser that brings the token first. It gets a
// cookie, and every later request needs that.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// What the server reads of an HTTP request. Header values are empty if the header is absent.
struct UiRequest {
  std::string method;
  std::string path;
  std::map<std::string, std::string, std::less<>> query;
  std::string host;        // Host
  std::string origin;      // Origin
  std::string fetch_site;  // Sec-Fetch-Site
  std::string cookie;      // Cookie
  bool has_body = false;
};

enum class Entry : std::uint8_t {
  session,     // the cookie is right
  token,       // the token is right and was not used before: answer with the cookie
  used_token,  // the token was used before
  no_session,  // no cookie, or a wrong one
  wrong_host,  // another Host: a page of another name that resolves to this address
  other_site,  // a page from elsewhere asked for it
};

/// Can be used by several threads.
class UiAccess {
 public:
  /// `port`: on which the server listens. Errors: no random bytes.
  [[nodiscard]] static Result<UiAccess> open(std::uint16_t port);
  UiAccess(UiAccess&& other) noexcept;

  /// http://127.0.0.1:PORT/?token=TOKEN
  [[nodiscard]] std::string url() const;
  /// Evaluates a request. A token is used up by a GET for "/" only.
  [[nodiscard]] Entry enter(const UiRequest& request);
  /// The value of Set-Cookie for Entry::token. The name of the cookie has the port, because
  /// browsers send cookies to all ports of a host.
  [[nodiscard]] std::string set_cookie() const;

 private:
  UiAccess() = default;
  [[nodiscard]] bool has_cookie(std::string_view header) const;

  std::uint16_t port_ = 0;
  std::string token_;   // 64 hexadecimal digits, 256 random bits
  std::string cookie_;  // likewise
  mutable std::mutex mutex_;
  bool used_ = false;
};

}  // namespace trireme::cli
