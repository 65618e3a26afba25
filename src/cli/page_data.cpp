// SPDX-License-Identifier: Apache-2.0
#include "page_data.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "denial_list.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/map.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/ports.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kMostDenials = 300;  // kinds, in a page from disk
constexpr std::size_t kMostAnswers = 50;   // of them with "why" and "allow"
constexpr std::chrono::seconds kExplainLimit(10);
constexpr std::chrono::seconds kLiveEvery(60);  // between two lists of open connections, at least
constexpr int kLiveShare = 200;                 // times as long as a list took

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? printable(name.data()) : "this host";
}

std::string explanation(const Globals& globals, const policy::SeenFlow& flow) {
  const auto answer = ask(globals, control::method::explain,
                          {{"from", flow.from.text()},
                           {"to", flow.to.text()},
                           {"port", policy::port_text(flow.protocol, flow.port)}},
                          kExplainLimit);
  return answer ? answer->value("text", "") : "cannot explain: " + answer.error().text();
}

std::string rules_for(const DrawnPolicy& drawn, const policy::SeenFlow& flow) {
  std::vector<policy::LabelSet> labels;
  policy::Published published;
  for (const policy::Party& party : drawn.present) {
    labels.push_back(party.labels);
    published[party.labels] = party.published;
  }
  return policy::suggest(drawn.policy, {flow}, labels, published)
      .toml("trirectl ui: from one kind of denied flow.");
}

}  // namespace

Status PolicyReader::read_live() {
  const auto began = Clock::now();
  if (began < next_live_) {
    return {};
  }
  auto live = live_flows(globals_);
  if (!live) {
    return tl::unexpected(live.error());
  }
  live_ = std::move(*live);
  const auto now = Clock::now();
  next_live_ = now + std::max<Clock::duration>(kLiveEvery, (now - began) * kLiveShare);
  return {};
}

Result<DrawnPolicy> PolicyReader::read() {
  auto policy = loaded_policy(globals_);
  if (!policy) {
    return tl::unexpected(policy.error());
  }
  auto present = present_parties(globals_);
  auto seen = recent_flows(globals_, {{"all", true}});
  const Status live = read_live();
  if (!present || !seen || !live) {
    return tl::unexpected(!present ? present.error() : !seen ? seen.error() : live.error());
  }
  seen->flows.insert(seen->flows.end(), live_.flows.begin(), live_.flows.end());
  DrawnPolicy drawn;
  drawn.graph = policy::graph(*policy, *present, seen->flows);
  drawn.policy = std::move(*policy);
  drawn.present = std::move(*present);
  if (seen->forgotten > 0) {
    drawn.notes.push_back(forgotten_text(seen->forgotten));
  }
  if (live_.unread_networks > 0) {
    drawn.notes.push_back(unread_text(live_.unread_networks));
  }
  return drawn;
}

Result<DrawnPolicy> drawn_policy(const Globals& globals) {
  return PolicyReader(globals).read();
}

std::string time_now() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

json page_map(const DrawnPolicy& drawn) {
  json map = control::map_json(drawn.graph);
  map["title"] = "trireme on " + host_name();
  map["mode"] = drawn.policy.mode == policy::Mode::audit ? "audit" : "enforce";
  map["notes"] = drawn.notes;
  return map;
}

json denial_answer(const Globals& globals, const DrawnPolicy& drawn, const json& flow) {
  const auto seen = control::seen_flow(flow);
  if (!seen) {
    const std::string reason = printable(flow.value("reason", "the reason is not known"));
    return {{"why", reason + "\n"},
            {"allow", "# No rule on this host can allow it: " + reason + "\n"}};
  }
  return {{"why", printable_lines(explanation(globals, *seen))},
          {"allow", printable_lines(rules_for(drawn, *seen))}};
}

Result<json> page_from_disk(const Globals& globals, const DrawnPolicy& drawn) {
  // The most frequent kinds; the list counts and orders them by their newest flow.
  std::vector<json> flows;
  json params = {{"verdict", {"deny", "audit"}}, {"summary", true}, {"limit", kMostDenials}};
  const auto answer = ask(globals, control::method::flows, params, std::chrono::seconds(30),
                          [&flows](const json& flow) {
                            flows.push_back(flow);
                            return true;
                          });
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  std::ranges::stable_sort(flows, {}, [](const json& flow) { return flow.value("time", ""); });
  DenialList list(kMostDenials);
  std::uint64_t change = 0;
  for (const json& flow : flows) {
    list.add(flow, ++change);
  }
  json denials = list.since(0);
  for (std::size_t i = 0; i < std::min(denials.size(), kMostAnswers); ++i) {
    if (const json* flow = list.flow(denials[i]["id"].get<std::uint64_t>()); flow != nullptr) {
      denials[i].update(denial_answer(globals, drawn, *flow));
    }
  }
  json map = page_map(drawn);
  json title = map["title"];
  return json{{"version", 1},
              {"live", false},
              {"title", std::move(title)},
              {"change", 0},
              {"map", std::move(map)},
              {"map_time", time_now()},
              {"denials", std::move(denials)},
              {"denials_left_out", answer->value("left_out", std::uint64_t{0})}};
}

}  // namespace trireme::cli
