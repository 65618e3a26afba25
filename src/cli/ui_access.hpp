// SPDX-License-Identifier: Apache-2.0
// Who may have the data of `trirectl ui`: the page that brings the token first. It gets the secret
// of the session, and sends that in a header of every later request. It is no cookie: browsers send
// cookies to every port of a host, and so to the servers of other users.
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
  std::string session;     // X-Trireme-Session
  bool has_body = false;
};

enum class Entry : std::uint8_t {
  session,     // the secret of the session is right
  token,       // the token is right and was not used before: answer with the page and the session
  page,        // the page alone, which has no data: a reload
  used_token,  // the token was used before
  no_session,  // no secret of the session, or a wrong one, or a wrong token
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
  /// What a page sends as X-Trireme-Session.
  [[nodiscard]] const std::string& session() const { return session_; }
  /// In every answer to a page of the session: another program that listens at this port later does
  /// not know it.
  [[nodiscard]] const std::string& instance() const { return instance_; }

 private:
  UiAccess() = default;
  [[nodiscard]] Entry enter_page(const UiRequest& request);

  std::uint16_t port_ = 0;
  std::string token_;     // 64 hexadecimal digits, 256 random bits
  std::string session_;   // likewise
  std::string instance_;  // likewise
  mutable std::mutex mutex_;
  bool used_ = false;
};

}  // namespace trireme::cli
