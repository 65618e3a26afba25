// SPDX-License-Identifier: Apache-2.0
#include "journal_flows.hpp"

#include <systemd/sd-journal.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "trireme/base/json.hpp"
#include "trireme/control/flow.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr const char* kFlowField = "TRIREME_FLOW";
constexpr const char* kCountField = "TRIREME_COUNT";

struct Close {
  void operator()(sd_journal* journal) const { sd_journal_close(journal); }
};

std::uint64_t microseconds(std::chrono::system_clock::time_point time) {
  const auto since = time.time_since_epoch();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::microseconds>(since).count()));
}

tl::unexpected<Error> fail_journal(const char* what, int code) {
  return fail(std::string(what) + ": " + std::generic_category().message(-code));
}

/// The value of the field in the current entry; empty if it has none.
std::string value_of(sd_journal* journal, const char* field) {
  const void* data = nullptr;
  std::size_t size = 0;
  if (sd_journal_get_data(journal, field, &data, &size) < 0) {
    return {};
  }
  const std::string_view all(static_cast<const char*>(data), size);
  return std::string(all.substr(std::min(all.size(), std::strlen(field) + 1)));
}

}  // namespace

bool FlowGroups::add(const std::string& text, std::uint64_t times) {
  auto parsed = parse_json(text);
  std::optional<policy::SeenFlow> seen;
  const json flow = parsed ? std::move(*parsed) : json();
  try {
    seen = flow.is_object() ? control::seen_flow(flow) : std::nullopt;
  } catch (const json::exception&) {
    return false;  // a member of an unexpected type
  }
  if (!seen) {
    return false;
  }
  seen->count = std::max<std::uint64_t>(times, 1);
  json key = {seen->protocol, seen->port, policy::text(seen->verdict)};
  for (const char* side : {"source", "destination"}) {
    json end = flow.value(side, json::object());
    if (end.contains("labels")) {
      end.erase("address");
    }
    key.push_back(std::move(end));
  }
  const std::string name = key.dump(-1, ' ', false, json::error_handler_t::replace);
  const auto known = groups_.find(name);
  if (known != groups_.end()) {
    known->second.count += seen->count;
    known->second.last = std::max(known->second.last, seen->last);
    return true;
  }
  if (groups_.size() >= kMost) {
    left_out_ += seen->count;
    return false;
  }
  groups_.emplace(name, std::move(*seen));
  return true;
}

JournalFlows FlowGroups::take() {
  JournalFlows taken{.flows = {}, .left_out = std::exchange(left_out_, 0)};
  for (auto& [key, flow] : groups_) {
    taken.flows.push_back(std::move(flow));
  }
  groups_.clear();
  return taken;
}

Result<JournalFlows> journal_flows(std::chrono::system_clock::time_point from,
                                   std::chrono::system_clock::time_point to) {
  sd_journal* opened = nullptr;
  if (const int code = sd_journal_open(&opened, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM);
      code < 0) {
    return fail_journal("cannot open the journal", code);
  }
  const std::unique_ptr<sd_journal, Close> journal(opened);
  int code = sd_journal_add_match(opened, "_SYSTEMD_UNIT=trireme.service", 0);
  code = code < 0 ? code : sd_journal_add_match(opened, "SYSLOG_IDENTIFIER=triremed", 0);
  code = code < 0 ? code : sd_journal_seek_realtime_usec(opened, microseconds(from));
  FlowGroups groups;
  while (code >= 0 && (code = sd_journal_next(opened)) > 0) {
    std::uint64_t time = 0;
    if (sd_journal_get_realtime_usec(opened, &time) < 0 || time >= microseconds(to)) {
      break;
    }
    if (const std::string text = value_of(opened, kFlowField); !text.empty()) {
      // Audited flows that are repeated are one entry for five minutes.
      groups.add(text, std::strtoull(value_of(opened, kCountField).c_str(), nullptr, 10));
    }
  }
  if (code < 0) {
    return fail_journal("cannot read the journal", code);
  }
  return groups.take();
}

}  // namespace trireme::cli
