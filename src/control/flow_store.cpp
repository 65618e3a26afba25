#include <algorithm>

#include "trireme/control/flow.hpp"

namespace trireme::control {
namespace {

std::string end_key(const FlowEnd& end) {
  if (end.labels) {
    return "l" + end.labels->encode() + '\0' + end.host;
  }
  return (end.quarantined ? "q" : end.entity) + '\0' + (end.address ? end.address->text() : "");
}

std::string flow_key(const Flow& flow) {
  std::string key = end_key(flow.source) + '\0' + end_key(flow.destination) + '\0';
  key += static_cast<char>(flow.verdict);
  key += static_cast<char>(flow.protocol);
  key += std::to_string(flow.port);
  return key + '\0' + flow.rule + '\0' + flow.reason + '\0' + flow.cause;
}

std::size_t end_size(const FlowEnd& end) {
  std::size_t bytes = 0;
  for (const auto* words : {&end.networks, &end.names}) {
    for (const std::string& word : *words) {
      bytes += word.size() + sizeof(std::string);
    }
  }
  if (end.labels) {
    for (const auto& [key, value] : end.labels->items()) {
      bytes += key.size() + value.size() + 100;  // and a node of the map
    }
  }
  return bytes + end.workload.size() + end.host.size();
}

std::size_t size_of(const Flow& flow) {
  return sizeof(Flow) + end_size(flow.source) + end_size(flow.destination) + flow.rule.size() +
         flow.reason.size() + flow.cause.size();
}

}  // namespace

std::string flow_owner(const Flow& flow) {
  const FlowEnd& source = flow.source;
  if (!source.host.empty()) {
    return "host " + source.host;
  }
  if (!source.workload.empty() || source.labels) {
    return "workload " + (source.workload.empty() ? source.labels->text() : source.workload);
  }
  if (source.entity != "@world" || !source.address) {
    return source.entity.empty() ? "workloads in quarantine" : source.entity;
  }
  policy::Address address = *source.address;
  if (address.family == policy::Address::Family::v6) {
    std::fill(address.bytes.begin() + 8, address.bytes.end(), std::uint8_t{0});
    return "address " + address.text() + "/64";
  }
  return "address " + address.text();
}

const Flow& FlowStore::add(Flow flow) {
  count(flow);
  recent_bytes_ += size_of(flow);
  recent_.push_back(std::move(flow));
  while (recent_.size() > 1 && (recent_.size() > limits_.recent || recent_bytes_ > limits_.bytes)) {
    recent_bytes_ -= size_of(recent_.front());
    recent_.pop_front();
  }
  return recent_.back();
}

void FlowStore::count(const Flow& flow) {
  std::string key = flow_key(flow);
  const auto weight = [](const Kept& kept) {
    return kept.key.size() + size_of(kept.tally.last) + sizeof(Kept);
  };
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    tallies_.splice(tallies_.begin(), tallies_, found->second);
    tally_bytes_ -= weight(tallies_.front());
  } else {
    tallies_.push_front({std::move(key), {.last = {}, .first = flow.time, .count = 0}});
    by_key_[tallies_.front().key] = tallies_.begin();
  }
  Kept& kept = tallies_.front();
  kept.tally.last = flow;
  kept.tally.count++;
  tally_bytes_ += weight(kept);
  while (tallies_.size() > 1 &&
         (tallies_.size() > limits_.tallies || tally_bytes_ > limits_.bytes)) {
    tally_bytes_ -= weight(tallies_.back());
    by_key_.erase(tallies_.back().key);
    tallies_.pop_back();
    forgotten_++;
  }
}

std::vector<const Flow*> FlowStore::recent(const FlowFilter& filter, std::size_t limit) const {
  std::vector<const Flow*> found;
  for (auto flow = recent_.rbegin(); flow != recent_.rend() && found.size() < limit; ++flow) {
    if (filter.matches(*flow)) {
      found.push_back(&*flow);
    }
  }
  std::ranges::reverse(found);
  return found;
}

std::vector<const FlowTally*> FlowStore::tallies(const FlowFilter& filter,
                                                 std::size_t limit) const {
  std::vector<const FlowTally*> found;
  for (const Kept& kept : tallies_) {
    if (filter.matches(kept.tally.last)) {
      found.push_back(&kept.tally);
    }
  }
  std::ranges::stable_sort(found, std::greater{},
                           [](const FlowTally* tally) { return tally->count; });
  found.resize(std::min(found.size(), limit));
  return found;
}

}  // namespace trireme::control
