#include "trireme/policy/seen.hpp"

namespace trireme::policy {

Endpoint SeenEnd::endpoint() const {
  if (labels) {
    return {.kind = Endpoint::Kind::workload, .labels = &*labels, .workload = 0, .address = {}};
  }
  return {.kind = host ? Endpoint::Kind::host : Endpoint::Kind::world, .labels = nullptr, .workload = 0, .address = address};
}

std::string SeenEnd::text() const {
  if (labels) {
    return labels->empty() ? "(no labels)" : labels->text();
  }
  return host ? "@host" : address ? address->text() : "@world";
}

}  // namespace trireme::policy
