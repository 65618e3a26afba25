// SPDX-License-Identifier: Apache-2.0
#include "log.hpp"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/systemd_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "trireme/control/flow.hpp"

#include "audit_summary.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/journal.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::daemon {
namespace {

/// See $JOURNAL_STREAM in systemd.exec(5): the device and inode of the stream that systemd
/// connected stderr to.
bool stderr_is_journal() {
  const char* stream =
      std::getenv("JOURNAL_STREAM");  // NOLINT(concurrency-mt-unsafe): no thread has started
  struct stat status = {};
  return stream != nullptr && ::fstat(STDERR_FILENO, &status) == 0 &&
         stream == fmt::format("{}:{}", status.st_dev, status.st_ino);
}

class PrintableSink final : public spdlog::sinks::sink {
 public:
  explicit PrintableSink(std::shared_ptr<spdlog::sinks::sink> next) : next_(std::move(next)) {}

  void log(const spdlog::details::log_msg& message) override {
    const std::string line = printable({message.payload.data(), message.payload.size()});
    spdlog::details::log_msg clean = message;
    clean.payload = line;
    next_->log(clean);
  }
  void flush() override { next_->flush(); }
  void set_pattern(const std::string& pattern) override { next_->set_pattern(pattern); }
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override {
    next_->set_formatter(std::move(formatter));
  }

 private:
  std::shared_ptr<spdlog::sinks::sink> next_;
};

std::string end_text(const policy::FlowEnd& end) {
  std::string text = end.labels ? end.labels->text() : end.entity;
  if (const char* state = end.quarantined ? "quarantined" : end.ended ? "ended" : nullptr) {
    text += fmt::format("{}{}", text.empty() ? "" : ", ", state);
  }
  const bool is_known = end.labels || !end.entity.empty();
  const std::string name = end.workload.empty() && !is_known ? "a workload" : end.workload;
  text = name.empty() ? text : text.empty() ? name : fmt::format("{} ({})", name, text);
  for (const std::string& network : end.networks) {
    text += ", @" + network;
  }
  const std::string dns_name = end.names.empty() ? "" : ", " + end.names.front();
  return fmt::format("{} [{}{}{}]", text, end.address ? end.address->text() : "", dns_name,
                     end.host.empty() ? "" : ", " + end.host);
}

}  // namespace

std::shared_ptr<spdlog::sinks::sink> printable_sink(std::shared_ptr<spdlog::sinks::sink> next) {
  return std::make_shared<PrintableSink>(std::move(next));
}

Status set_up_log(const std::string& level, bool foreground) {
  const spdlog::level::level_enum wanted = spdlog::level::from_str(level);
  if (wanted == spdlog::level::off) {
    return fail("unknown log level '" + level + "'", "use trace, debug, info, warn or error");
  }
  std::shared_ptr<spdlog::sinks::sink> sink;
  if (!foreground && stderr_is_journal()) {
    log_events_to_journal();
    sink = std::make_shared<spdlog::sinks::systemd_sink_mt>("triremed");
  } else {
    sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$: %v");
  }
  auto logger = std::make_shared<spdlog::logger>("triremed", printable_sink(std::move(sink)));
  logger->set_level(wanted);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

void log_flow(const policy::Flow& flow, std::uint64_t repeated) {
  const std::string source = end_text(flow.source);
  const std::string destination = end_text(flow.destination);
  const char* verdict = policy::text(flow.verdict);
  const std::string service = policy::port_text(flow.protocol, flow.port);
  const std::string again =
      repeated == 0 ? ""
                    : fmt::format("; {} more within {} minutes", counted(repeated, "time"),
                                  AuditSummary::kWindow.count());
  const char* id = flow.verdict == policy::Verdict::deny    ? message_id::kDenied
                   : flow.verdict == policy::Verdict::audit ? message_id::kAudited
                                                            : nullptr;
  JournalFields fields = {{"VERDICT", verdict},
                          {"RULE", flow.rule},
                          {"REASON", flow.reason},
                          {"SOURCE", source},
                          {"DESTINATION", destination},
                          {"PROTOCOL", service.substr(0, service.find('/'))},
                          {"PORT", std::to_string(flow.port)},
                          {"COUNT", std::to_string(repeated == 0 ? 1 : repeated)},
                          {"POLICY", flow.policy},
                          {"FLOW", control::to_json(flow).dump(
                                       -1, ' ', true, nlohmann::json::error_handler_t::replace)}};
  for (const auto& [name, at] : {std::pair("SOURCE_VERDICT", flow.at_source),
                                 std::pair("DESTINATION_VERDICT", flow.at_destination)}) {
    if (at) {
      fields.emplace_back(name, policy::text(*at));
    }
  }
  log_event(flow.verdict == policy::Verdict::allow ? LOG_INFO : LOG_NOTICE, id,
            fmt::format("{} {} -> {} {}: {}{}{}", verdict, source, destination, service,
                        flow.reason, flow.rule.empty() ? "" : ", " + flow.rule, again),
            fields);
}

}  // namespace trireme::daemon
