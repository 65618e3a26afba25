// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/journal.hpp"

#include <spdlog/spdlog.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#include "trireme/base/printable.hpp"

namespace trireme {
namespace {

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): a process has one log
bool to_journal = false;

spdlog::level::level_enum level(int priority) {
  return priority <= LOG_ERR       ? spdlog::level::err
         : priority == LOG_WARNING ? spdlog::level::warn
                                   : spdlog::level::info;
}

}  // namespace

void log_events_to_journal() {
  to_journal = true;
}

std::vector<std::string> journal_entry(int priority, const char* id, const std::string& message,
                                       const JournalFields& fields) {
  std::vector<std::string> lines = {"MESSAGE=" + printable(message),
                                    "PRIORITY=" + std::to_string(priority),
                                    "SYSLOG_IDENTIFIER=triremed"};
  if (id != nullptr) {
    lines.push_back(std::string("MESSAGE_ID=") + id);
  }
  for (const auto& [name, value] : fields) {
    lines.push_back("TRIREME_" + name + "=" + printable(value));
  }
  return lines;
}

void log_event(int priority, const char* id, const std::string& message,
               const JournalFields& fields) {
  if (!to_journal) {
    spdlog::log(level(priority), "{}", message);
    return;
  }
  if (!spdlog::should_log(level(priority))) {
    return;
  }
  std::vector<std::string> lines = journal_entry(priority, id, message, fields);
  std::vector<iovec> parts;
  parts.reserve(lines.size());
  for (std::string& line : lines) {
    parts.push_back({.iov_base = line.data(), .iov_len = line.size()});
  }
  (void)sd_journal_sendv(parts.data(), static_cast<int>(parts.size()));
}

}  // namespace trireme
