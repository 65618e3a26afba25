// SPDX-License-Identifier: Apache-2.0
// Log lines that programs look for: in the journal they have a MESSAGE_ID, which
// units/trireme.catalog explains, and fields of their own. All other lines are spdlog's.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace trireme {

/// Values of MESSAGE_ID=: part of the interface, never changed.
namespace message_id {
inline constexpr const char* kDenied = "41226713f7d94ba38f6b7b4c460dacba";
inline constexpr const char* kAudited = "78fde9cdde0843beae66bf9e03f7d09a";
inline constexpr const char* kDrift = "833d7afbc458460680bb70267922fed5";
inline constexpr const char* kNotRepaired = "1f4ddf1ce7704724b7060c137a9cc543";
inline constexpr const char* kReloadRefused = "005efd4c45874a82a783893a8f4581e9";
inline constexpr const char* kCertificateEnds = "0464410b703644e3b303b5351d34a640";
}  // namespace message_id

/// Names without "TRIREME_", in capitals.
using JournalFields = std::vector<std::pair<std::string, std::string>>;

/// From now on, log_event() writes to the journal. Called once, before threads start.
void log_events_to_journal();

/// The fields of the journal's entry for log_event(), "NAME=VALUE" each. Control characters become
/// '?': names and labels in them come from others.
[[nodiscard]] std::vector<std::string> journal_entry(int priority, const char* id,
                                                     const std::string& message,
                                                     const JournalFields& fields);

/// Logs the message. In the journal with this priority (LOG_ERR of syslog.h, ...), MESSAGE_ID=`id`
/// unless it is null, and the fields as TRIREME_NAME=VALUE; otherwise as one line by spdlog.
void log_event(int priority, const char* id, const std::string& message,
               const JournalFields& fields);

}  // namespace trireme
