// SPDX-License-Identifier: Apache-2.0
#include "transfer.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

namespace trireme::docker {
namespace {

constexpr std::size_t kMaxHeaderBytes = 64U << 10U;

/// The value of header `name` (lower case, with its colon) in a header line; empty if the line is
/// another header.
std::string header_value(std::string_view line, std::string_view name) {
  const bool same = line.size() > name.size() &&
                    std::ranges::equal(line.substr(0, name.size()), name, [](char a, char b) {
                      return std::tolower(static_cast<unsigned char>(a)) == b;
                    });
  if (!same) {
    return {};
  }
  line.remove_prefix(name.size());
  const auto first = line.find_first_not_of(" \t");
  const auto last = line.find_last_not_of(" \t\r\n");
  return first == std::string_view::npos || last < first
             ? std::string()
             : std::string(line.substr(first, last - first + 1));
}

}  // namespace

std::size_t Client::Transfer::on_header(char* data, std::size_t size, std::size_t count,
                                        void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const std::string_view line(data, size * count);
  if (line.size() > kMaxHeaderBytes) {
    return 0;
  }
  if (std::string server = header_value(line, "server:"); !server.empty()) {
    transfer.answer.server = std::move(server);
  }
  if (line == "\r\n" || line == "\n") {
    curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &transfer.answer.status);
    transfer.has_headers = transfer.answer.status >= 200;  // 1xx: the final answer follows
  }
  return line.size();
}

std::size_t Client::Transfer::on_body(char* data, std::size_t size, std::size_t count, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  if (!transfer.append({data, size * count})) {
    transfer.is_too_large = true;
    return 0;
  }
  return size * count;
}

bool Client::Transfer::append(std::string_view data) {
  for (std::size_t end = data.find('\n'); is_stream() && end != std::string_view::npos;
       end = data.find('\n')) {
    if (answer.body.size() + end > limit) {
      return false;
    }
    answer.body += data.substr(0, end);
    if (!answer.body.empty()) {
      lines.push_back(std::exchange(answer.body, {}));
    }
    data.remove_prefix(end + 1);
  }
  if (answer.body.size() + data.size() > limit) {
    return false;
  }
  answer.body += data;
  return true;
}

std::tuple<std::optional<Client::Answer>, std::vector<std::string>, Client::Stream>
Client::Transfer::take() {
  std::optional<Answer> opened;
  if (has_headers && answer.status == 200 && !std::exchange(reported_opened, true)) {
    opened = Answer{answer.status, {}, answer.server};
  }
  return {std::move(opened),
          reported_opened ? std::exchange(lines, {}) : std::vector<std::string>(), stream};
}

Error Client::Transfer::reason(CURLcode code) const {
  if (is_too_large) {
    return {path + ": the answer is larger than " + std::to_string(limit) + " bytes"};
  }
  if (code == CURLE_OK && is_stream() && answer.status != 200) {
    return {path + ": HTTP status " + std::to_string(answer.status)};
  }
  if (code == CURLE_OK) {
    return {"the event stream ended"};
  }
  return {path + ": " + (error[0] != '\0' ? error.data() : curl_easy_strerror(code))};
}

void Client::Transfer::end(CURLcode code) {
  if (is_stream()) {
    stream.ended(reason(code));
  } else if (code != CURLE_OK) {
    done(tl::unexpected(reason(code)));
  } else {
    done(std::move(answer));
  }
}

}  // namespace trireme::docker
