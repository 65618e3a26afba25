// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/enforcer.hpp"

#include <algorithm>
#include <iterator>

#include "learned_names.hpp"
#include "trireme/datapath/elements.hpp"
#include "version.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using policy::Number;

Enforcer::Enforcer(kernel::NftSocket socket, kernel::Conntrack conntrack,
                   kernel::SocketTable sockets, Common& common, datapath::Layout layout,
                   std::shared_ptr<const policy::Policy> policy)
    : socket_(std::move(socket)),
      conntrack_(std::move(conntrack)),
      sockets_(std::move(sockets)),
      common_(common),
      layout_(layout),
      tree_(common.tree),
      version_(std::make_unique<Version>(
          Version{policy, policy::Compiler(policy, 1),
                  NameBook(std::make_shared<const policy::NameIndex>(*policy))})) {}

Enforcer::~Enforcer() = default;

Result<std::unique_ptr<Enforcer>> Enforcer::open(Common& common, datapath::Layout layout,
                                                 std::shared_ptr<const policy::Policy> policy) {
  auto socket = kernel::NftSocket::open();
  auto conntrack = kernel::Conntrack::open();
  auto sockets = kernel::SocketTable::open();
  for (const Error* error :
       {socket ? nullptr : &socket.error(), conntrack ? nullptr : &conntrack.error(),
        sockets ? nullptr : &sockets.error()}) {
    if (error != nullptr) {
      return tl::unexpected(*error);
    }
  }
  std::unique_ptr<Enforcer> enforcer(new Enforcer(std::move(*socket), std::move(*conntrack),
                                                  std::move(*sockets), common, layout,
                                                  std::move(policy)));
  if (Status recalled = enforcer->recall_names(); !recalled) {
    return tl::unexpected(recalled.error());
  }
  return enforcer;
}

Status Enforcer::start() {
  const Status written = write_everything(*version_);
  live_ = live_ || written.has_value();
  return written;
}

/// The same workloads and names under another policy. Identifiers of the two versions are disjoint,
/// so that no packet is evaluated by a mixture of both (see Writer::twice).
std::unique_ptr<Enforcer::Version> Enforcer::compile(
    std::shared_ptr<const policy::Policy> policy) const {
  constexpr std::uint32_t kSecondHalf = 1U << 31U;
  policy::Compiler compiler(policy, version_->compiler.first_id() == kSecondHalf ? 1 : kSecondHalf);
  for (const auto& [number, labels] : labels_) {
    compiler.add(number, labels);
  }
  NameBook names = version_->names;
  names.set_index(std::make_shared<const policy::NameIndex>(*policy));
  for (const policy::Address& address : names.all()) {
    compiler.name(address, names.networks(address));
  }
  return std::make_unique<Version>(
      Version{std::move(policy), std::move(compiler), std::move(names)});
}

/// Writes the difference between the present version and `next`.
Status Enforcer::exchange(const Version& next) {
  const policy::Compiler& before = version_->compiler;
  const policy::Delta delta = policy::difference(before.elements(), next.compiler.elements());
  begin_exchange();
  NftBatch batch(abi::kTable);
  datapath::flush_tables(batch);
  datapath::write_tables(batch, next.compiler.tables(), next.compiler.first_id());
  batch.flush_set(datapath::sets().refusal);
  batch.flush_set(datapath::sets().auditing);
  datapath::write_refusal(batch, *next.policy);
  datapath::write_elements(batch, delta.remove, before.first_id(), true);
  datapath::write_elements(batch, delta.add, next.compiler.first_id(), false);
  datapath::flush_named(batch);
  datapath::write_named(batch,
                        named_elements(next.names, next.names.all(), next.compiler.elements()));
  batch.flush_set(datapath::sets().answers);
  datapath::write_answers(batch, *next.policy);
  const bool answers = datapath::reads_answers(*next.policy) && !has_answers_hook_;
  if (answers) {
    datapath::write_answers_hook(batch);
  }
  if (Status committed = socket_.commit(std::move(batch)); !committed) {
    return committed;
  }
  has_answers_hook_ = has_answers_hook_ || answers;
  return end_exchange();
}

Status Enforcer::apply(std::shared_ptr<const policy::Policy> policy, OnError on_error) {
  std::unique_ptr<Version> next = compile(std::move(policy));
  if (live_) {
    Status written = exchange(*next);
    if (!written) {
      written = write_everything(*next);
    }
    if (!written && on_error == OnError::keep_old) {
      // The table itself may be gone; then repair() rewrites it.
      std::ignore = end_exchange();
      return written;
    }
  }
  std::swap(version_, next);
  const std::vector<policy::Address> before = next->names.all();
  report_names({before.begin(), before.end()});
  return {};
}

Status Enforcer::set_speakers(std::vector<policy::Prefix> speakers) {
  if (speakers == speakers_) {
    return {};
  }
  std::swap(speakers, speakers_);
  if (!live_) {
    return {};
  }
  const auto without = [](const std::vector<policy::Prefix>& from,
                          const std::vector<policy::Prefix>& others) {
    std::vector<policy::Prefix> rest;
    std::ranges::copy_if(from, std::back_inserter(rest), [&](const policy::Prefix& prefix) {
      return std::ranges::find(others, prefix) == others.end();
    });
    return rest;
  };
  NftBatch batch(abi::kTable);
  datapath::write_speakers(batch, without(speakers, speakers_), true);
  datapath::write_speakers(batch, without(speakers_, speakers), false);
  Status committed =
      behind_ ? fail("table inet trireme is out of date") : socket_.commit(std::move(batch));
  if (!committed) {
    committed = write_everything(*version_);
  }
  if (!committed) {
    std::swap(speakers, speakers_);
  }
  return committed;
}

const policy::Policy& Enforcer::policy() const {
  return *version_->policy;
}

const policy::LabelSet* Enforcer::labels(Number number) const {
  const auto found = labels_.find(number);
  return found == labels_.end() ? nullptr : &found->second;
}

}  // namespace trireme::enforcer
