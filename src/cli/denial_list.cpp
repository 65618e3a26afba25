// SPDX-License-Identifier: Apache-2.0
#include "denial_list.hpp"

#include <algorithm>
#include <iterator>

#include "flow_line.hpp"
#include "trireme/base/printable.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

/// The text of the map's node for one end of a flow.
std::string node_text(const json& end) {
  if (const auto labels = end.find("labels"); labels != end.end() && labels->is_object()) {
    return labels->empty() ? printable(end.value("workload", "")) : labels_text(*labels);
  }
  const auto networks = end.find("networks");
  if (networks != end.end() && networks->is_array() && !networks->empty() &&
      networks->front().is_string()) {
    return printable("@" + networks->front().get<std::string>());
  }
  return printable(end.value("entity", end.value("workload", "")));
}

}  // namespace

json denial_json(const json& flow) {
  const auto [from, to] = end_texts(flow);
  return {{"time", printable(flow.value("time", ""))},
          {"verdict", flow.value("verdict", "") == "audit" ? "audit" : "deny"},
          {"from", from},
          {"to", to},
          {"from_end", node_text(flow.value("source", json::object()))},
          {"to_end", node_text(flow.value("destination", json::object()))},
          {"port", service_text(flow)},
          {"count", flow.value("count", std::uint64_t{1})},
          {"rule", printable(flow.value("rule", ""))},
          {"reason", printable(flow.value("reason", ""))}};
}

void DenialList::add(const json& flow, std::uint64_t change) {
  json shown = denial_json(flow);
  const std::uint64_t count = shown["count"].get<std::uint64_t>();
  std::string key;
  // The texts are printable, so that none contains a line end.
  for (const char* part :
       {"from", "to", "from_end", "to_end", "port", "verdict", "rule", "reason"}) {
    key += shown[part].get_ref<const std::string&>() + '\n';
  }
  if (const auto known = by_key_.find(key); known != by_key_.end()) {
    denials_.splice(denials_.begin(), denials_, known->second);
  } else {
    // The whole identity without addresses: a source can have any number of those.
    const std::string owner = shown["from_end"].get<std::string>();
    denials_.push_front({.id = ++next_id_,
                         .change = 0,
                         .count = 0,
                         .key = key,
                         .owner = owner,
                         .flow = {},
                         .shown = {}});
    by_key_[std::move(key)] = denials_.begin();
    by_owner_[owner]++;
  }
  Denial& denial = denials_.front();
  denial.change = change;
  denial.count += count;
  denial.flow = flow;
  denial.shown = std::move(shown);
  denial.shown["id"] = denial.id;
  denial.shown["change"] = change;
  denial.shown["count"] = denial.count;
  if (denials_.size() > most_) {
    drop_one();
  }
}

void DenialList::drop_one() {
  const auto largest =
      std::ranges::max_element(by_owner_, {}, [](const auto& owner) { return owner.second; });
  // The newest entry stays, even if its source is as large as any other.
  auto dropped = std::prev(denials_.end());
  for (auto each = dropped; each != denials_.begin(); --each) {
    if (each->owner == largest->first) {
      dropped = each;
      break;
    }
  }
  const auto owner = by_owner_.find(dropped->owner);
  if (--owner->second == 0) {
    by_owner_.erase(owner);
  }
  by_key_.erase(dropped->key);
  denials_.erase(dropped);
  left_out_++;
}

json DenialList::since(std::uint64_t change) const {
  json list = json::array();
  for (const Denial& denial : denials_) {
    if (denial.change <= change) {
      break;
    }
    list.push_back(denial.shown);
  }
  return list;
}

std::vector<std::uint64_t> DenialList::ids() const {
  std::vector<std::uint64_t> ids;
  ids.reserve(denials_.size());
  for (const Denial& denial : denials_) {
    ids.push_back(denial.id);
  }
  return ids;
}

const json* DenialList::flow(std::uint64_t id) const {
  const auto found = std::ranges::find(denials_, id, &Denial::id);
  return found == denials_.end() ? nullptr : &found->flow;
}

}  // namespace trireme::cli
