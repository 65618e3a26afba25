// SPDX-License-Identifier: Apache-2.0
#include "trireme/verifier/identities.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "trireme/base/file.hpp"

namespace trireme::verifier {

using handshake::RemoteIdentity;
using nlohmann::json;

namespace {

constexpr auto kKept = std::chrono::minutes(15);

/// Verifies a credential that was proved earlier against the trust in force, at a time at which the
/// credential was valid. Null if it is no longer trusted.
std::shared_ptr<const credentials::Peer> believed(const credentials::Trust& trust,
                                                  wire::CredentialType type,
                                                  credentials::Bytes credential,
                                                  credentials::Time when) {
  // The credential of type `local` is new at each start; what an earlier one proved stays valid.
  const bool is_local = type == wire::CredentialType::local;
  return trust.verify(type, is_local ? trust.credential(type) : credential, when).value_or(nullptr);
}

/// A copy of the identity with that peer. Null if the peer is null or may not vouch for the labels.
std::shared_ptr<const RemoteIdentity> renewed(const RemoteIdentity& identity,
                                              std::shared_ptr<const credentials::Peer> peer) {
  if (peer == nullptr || !peer->constraints.permit(identity.labels)) {
    return nullptr;
  }
  RemoteIdentity fresh = identity;
  fresh.peer = std::move(peer);
  return std::make_shared<const RemoteIdentity>(std::move(fresh));
}

json to_json(const RemoteIdentity& identity) {
  const auto seconds = [](credentials::Time time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
  };
  return {{"number", identity.number},
          {"labels", identity.labels.encode()},
          {"type", static_cast<unsigned>(identity.peer->type)},
          {"credential", identity.peer->credential},
          {"not_before", seconds(identity.peer->not_before)},
          {"not_after", seconds(identity.peer->not_after)}};
}

/// `now`, or the nearest time at which the saved credential was valid. Files of older versions do
/// not contain the times.
credentials::Time when_valid(const json& saved, credentials::Time now) {
  if (!saved.contains("not_before") || !saved.contains("not_after")) {
    return now;
  }
  const auto time = [&saved](const char* key) {
    return credentials::Time(std::chrono::seconds(saved[key].get<std::int64_t>()));
  };
  return std::max(time("not_before"), std::min(time("not_after"), now));
}

}  // namespace

std::string identities_file(const std::string& runtime_dir) {
  return runtime_dir + "/identities.json";
}

std::string proved_file(const std::string& runtime_dir) {
  return runtime_dir + "/proved";
}

void forget_identities(const std::string& runtime_dir) {
  std::ignore = std::remove(identities_file(runtime_dir).c_str());
  std::ignore = std::remove(proved_file(runtime_dir).c_str());
}

Identities::Identities(std::string file, policy::Numbers& numbers)
    : file_(std::move(file)),
      numbers_(numbers),
      entered_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

std::shared_ptr<const RemoteIdentity> Identities::enter(const RemoteIdentity& identity) {
  const std::scoped_lock lock(mutex_);
  const Key key{identity.peer->hash, identity.hash};
  if (const auto known = entries_.find(key); known != entries_.end()) {
    return known->second.identity;
  }
  const auto of_peer = of_peer_.find(key.first);
  const bool is_local = identity.peer->type == wire::CredentialType::local;
  const bool has_room = entries_.size() < kMost &&
                        (is_local || of_peer == of_peer_.end() || of_peer->second < kMostOfPeer);
  const auto number = has_room ? numbers_.take() : std::nullopt;
  if (!number) {
    return nullptr;
  }
  RemoteIdentity numbered = identity;
  numbered.number = *number;
  auto entered = std::make_shared<const RemoteIdentity>(std::move(numbered));
  put(entered);
  changed_ = true;
  const std::uint64_t one = 1;
  std::ignore = ::write(entered_.get(), &one, sizeof one);
  return entered;
}

void Identities::put(std::shared_ptr<const RemoteIdentity> identity) {
  const Key key{identity->peer->hash, identity->hash};
  by_number_[identity->number] = key;
  const auto [entry, is_new] =
      entries_.insert_or_assign(key, Entry{std::move(identity), std::chrono::steady_clock::now()});
  of_peer_[key.first] += is_new ? 1 : 0;
}

Identities::Entries::iterator Identities::take_out(Entries::iterator entry) {
  const RemoteIdentity& known = *entry->second.identity;
  by_number_.erase(known.number);
  numbers_.give_back(known.number);
  if (const auto of_peer = of_peer_.find(entry->first.first); --of_peer->second == 0) {
    of_peer_.erase(of_peer);
  }
  changed_ = true;
  return entries_.erase(entry);
}

Result<std::size_t> Identities::load(const credentials::Trust& trust, credentials::Time now) {
  const auto content = read_file(file_, std::size_t{256} << 20U);
  if (!content) {
    return ::access(file_.c_str(), F_OK) == 0
               ? fail(content.error().message, "flows of the remote identities in it end")
               : Result<std::size_t>(0U);  // first start: flows with unknown numbers end
  }
  const json list = json::parse(*content, nullptr, false);
  if (!list.is_array()) {
    return fail(file_ + " is not a JSON list", "flows of the remote identities in it end");
  }
  // A host can have many identities: verify its credential once.
  std::map<std::pair<wire::CredentialType, std::vector<std::uint8_t>>,
           std::shared_ptr<const credentials::Peer>>
      peers;
  const std::scoped_lock lock(mutex_);
  for (const json& item : list) {
    try {
      auto labels = policy::LabelSet::decode(item.at("labels").get<std::string>());
      const auto number = item.at("number").get<policy::Number>();
      const auto type = static_cast<wire::CredentialType>(item.at("type").get<unsigned>());
      const auto credential = item.at("credential").get<std::vector<std::uint8_t>>();
      if (!labels || !numbers_.take(number)) {
        continue;
      }
      const std::string encoded = labels->encode();
      const auto hash = credentials::sha256(
          {{reinterpret_cast<const std::uint8_t*>(encoded.data()), encoded.size()}});
      const RemoteIdentity saved{
          .number = number, .labels = std::move(*labels), .hash = hash, .peer = nullptr};
      const auto [peer, is_new] = peers.try_emplace({type, credential});
      if (is_new) {
        peer->second = believed(trust, type, credential, when_valid(item, now));
      }
      auto identity = renewed(saved, peer->second);
      if (identity == nullptr) {
        numbers_.give_back(number);
        changed_ = true;
        continue;
      }
      put(std::move(identity));
    } catch (const json::exception&) {
      changed_ = true;  // malformed entry: leave it out of the next file
    }
  }
  return entries_.size();
}

Status Identities::save() {
  std::uint64_t counter = 0;
  std::ignore = ::read(entered_.get(), &counter, sizeof counter);
  std::vector<std::shared_ptr<const RemoteIdentity>> identities;
  {
    const std::scoped_lock lock(mutex_);
    if (!changed_) {
      return {};
    }
    changed_ = false;
    for (const auto& [key, entry] : entries_) {
      identities.push_back(entry.identity);
    }
  }
  json list = json::array();
  for (const auto& identity : identities) {
    list.push_back(to_json(*identity));
  }
  Status written = replace_file(file_, list.dump(), 0600);
  if (!written) {
    const std::scoped_lock lock(mutex_);
    changed_ = true;
  }
  return written;
}

void Identities::set_trust(const credentials::Trust& trust, credentials::Time now) {
  // Verify without the lock, because the packet path waits for it and a certificate takes
  // milliseconds; once for all identities of a host.
  std::map<credentials::Digest, std::shared_ptr<const credentials::Peer>> peers;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [key, entry] : entries_) {
      peers.emplace(key.first, entry.identity->peer);
    }
  }
  for (auto& [hash, peer] : peers) {
    peer = believed(trust, peer->type, peer->credential,
                    std::max(peer->not_before, std::min(peer->not_after, now)));
  }
  const std::scoped_lock lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const RemoteIdentity& known = *entry->second.identity;
    const auto peer = peers.find(entry->first.first);
    if (peer == peers.end()) {
      ++entry;  // entered in the meantime, by a thread that already uses this trust
      continue;
    }
    if (auto fresh = renewed(known, peer->second)) {
      entry->second.identity = std::move(fresh);
      ++entry;
      continue;
    }
    entry = take_out(entry);
  }
}

void Identities::prune(const std::unordered_set<policy::Number>& in_use,
                       std::chrono::steady_clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto& identity = entry->second.identity;
    if (in_use.contains(identity->number) || identity.use_count() > 1 ||
        entry->second.entered + kKept > now) {
      ++entry;
      continue;
    }
    entry = take_out(entry);
  }
}

std::shared_ptr<const RemoteIdentity> Identities::find(policy::Number number) const {
  const std::scoped_lock lock(mutex_);
  const auto key = by_number_.find(number);
  return key == by_number_.end() ? nullptr : entries_.at(key->second).identity;
}

std::size_t Identities::size() const {
  const std::scoped_lock lock(mutex_);
  return entries_.size();
}

}  // namespace trireme::verifier
