// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/enforcer.hpp"

#include <algorithm>
#include <iterator>

#include "learned_names.hpp"
#include "trireme/enforcer/elements.hpp"

namespace trireme::enforcer {

using kernel::NftBatch;
using policy::Number;

Enforcer::Enforcer(kernel::NftSocket socket, kernel::Conntrack conntrack,
                   kernel::SocketTable sockets, Common& common, Layout layout,
                   std::shared_ptr<const policy::Policy> policy)
    : socket_(std::move(socket)),
      conntrack_(std::move(conntrack)),
      sockets_(std::move(sockets)),
      common_(common),
      layout_(layout),
      tree_(common.tree),
      policy_(policy),
      compiler_(policy, 1),
      names_(std::make_unique<NameBook>(std::make_shared<const policy::NameIndex>(*policy))) {}

Enforcer::~Enforcer() = default;

Result<std::unique_ptr<Enforcer>> Enforcer::open(Common& common, Layout layout,
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
  const Status written = write_everything();
  live_ = live_ || written.has_value();
  return written;
}

Status Enforcer::apply(std::shared_ptr<const policy::Policy> policy, OnError on_error) {
  // Identifiers of the two policies are disjoint, so that no packet is judged by half of each (see
  // Writer::twice).
  constexpr std::uint32_t kSecondHalf = 1U << 31U;
  policy::Compiler next(policy, compiler_.first_id() == kSecondHalf ? 1 : kSecondHalf);
  for (const auto& [number, labels] : labels_) {
    next.add(number, labels);
  }
  auto names = std::make_unique<NameBook>(*names_);
  names->set_index(std::make_shared<const policy::NameIndex>(*policy));
  for (const policy::Address& address : names->all()) {
    next.name(address, names->networks(address));
  }
  if (live_) {
    const policy::Delta delta = policy::difference(compiler_.elements(), next.elements());
    begin_exchange();
    NftBatch batch(kTable);
    flush_tables(batch);
    write_tables(batch, next.tables(), next.first_id());
    batch.flush_set(sets().refusal);
    batch.flush_set(sets().auditing);
    write_refusal(batch, *policy);
    write_elements(batch, delta.remove, compiler_.first_id(), true);
    write_elements(batch, delta.add, next.first_id(), false);
    flush_named(batch);
    write_named(batch, named_elements(*names, names->all(), next.elements()));
    batch.flush_set(sets().answers);
    write_answers(batch, *policy);
    const bool answers = reads_answers(*policy) && !has_answers_hook_;
    if (answers) {
      write_answers_hook(batch);
    }
    Status committed = socket_.commit(std::move(batch));
    if (committed) {
      has_answers_hook_ = has_answers_hook_ || answers;
      committed = end_exchange();
    }
    const auto exchange = [&] {
      std::swap(policy_, policy);
      std::swap(compiler_, next);
      std::swap(names_, names);
    };
    if (!committed) {
      exchange();
      committed = write_everything();
      exchange();  // as below
      if (!committed && on_error == OnError::keep_old) {
        std::ignore = end_exchange();  // else the table is gone, and written anew
        return committed;
      }
    }
  }
  policy_ = std::move(policy);
  compiler_ = std::move(next);
  std::swap(names_, names);
  const std::vector<policy::Address> before = names->all();
  tell_names({before.begin(), before.end()});
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
  NftBatch batch(kTable);
  write_speakers(batch, without(speakers, speakers_), true);
  write_speakers(batch, without(speakers_, speakers), false);
  Status committed =
      behind_ ? fail("the table is not up to date") : socket_.commit(std::move(batch));
  if (!committed) {
    committed = write_everything();
  }
  if (!committed) {
    std::swap(speakers, speakers_);
  }
  return committed;
}

const policy::LabelSet* Enforcer::labels(Number number) const {
  const auto found = labels_.find(number);
  return found == labels_.end() ? nullptr : &found->second;
}

}  // namespace trireme::enforcer
