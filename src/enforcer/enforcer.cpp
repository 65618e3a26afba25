#include "trireme/enforcer/enforcer.hpp"

#include "trireme/enforcer/elements.hpp"
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using kernel::NftBytes;
using kernel::NftElement;
using policy::Number;

Enforcer::Enforcer(kernel::NftSocket socket, std::shared_ptr<const policy::Policy> policy)
    : socket_(std::move(socket)), policy_(policy), compiler_(std::move(policy)) {}

Result<std::unique_ptr<Enforcer>> Enforcer::open(std::shared_ptr<const policy::Policy> policy) {
  auto socket = kernel::NftSocket::open();
  if (!socket) {
    return tl::unexpected(socket.error());
  }
  return std::unique_ptr<Enforcer>(new Enforcer(std::move(*socket), std::move(policy)));
}

Status Enforcer::start() {
  const Status written = write_everything();
  live_ = live_ || written.has_value();
  return written;
}

Status Enforcer::write_everything() {
  NftBatch batch(kTable);
  write_ruleset(batch);
  write_refusal(batch, *policy_);
  write_tables(batch, compiler_.tables());
  write_elements(batch, compiler_.elements(), false);
  std::vector<Number> numbers;
  numbers.reserve(labels_.size());
  for (const auto& [number, labels] : labels_) {
    numbers.push_back(number);
  }
  write_numbers(batch, numbers, false);
  std::vector<NftElement> list;
  for (const auto& [id, member] : members_) {
    list.push_back({.key = NftBytes::u64(id), .data = NftBytes::twice(member.number)});
  }
  batch.add_elements(sets().workloads, list);
  write_depth(batch, depth());
  const Status committed = socket_.commit(std::move(batch));
  if (committed) {
    written_depth_ = depth();
  }
  return committed;
}

std::uint32_t Enforcer::depth() const {
  return levels_.empty() ? 1 : levels_.rbegin()->first;
}

Result<Number> Enforcer::fresh_number() {
  for (std::uint32_t tries = 0; tries <= policy::kLastNumber - policy::kFirstNumber; tries++) {
    last_number_ = last_number_ >= policy::kLastNumber ? policy::kFirstNumber : last_number_ + 1;
    if (!labels_.contains(last_number_)) {
      return last_number_;
    }
  }
  return fail("no workload number is free");
}

}  // namespace trireme::enforcer
