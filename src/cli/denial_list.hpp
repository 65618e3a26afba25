// SPDX-License-Identifier: Apache-2.0
// Denied and audited flows for the page: those of one kind are one entry, and their number is
// bounded with a share for each source.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trireme::cli {

/// One entry of the page's list, without "why" and "allow", see page(). `flow` is an object of the
/// control method `flows`. Its texts are printable.
[[nodiscard]] nlohmann::json denial_json(const nlohmann::json& flow);

class DenialList {
 public:
  explicit DenialList(std::size_t most) : most_(most) {}

  /// Counts the flow with others of its kind: same ends, port, verdict, rule and reason. `change`
  /// is a number greater than any before. If there is no room, the source with the most entries
  /// loses its oldest. All addresses of @world are one source, and so are those of a network.
  void add(const nlohmann::json& flow, std::uint64_t change);
  /// Entries that were added or counted after `change`, newest first.
  [[nodiscard]] nlohmann::json since(std::uint64_t change) const;
  /// The "id" of each entry.
  [[nodiscard]] std::vector<std::uint64_t> ids() const;
  /// The newest flow of an entry, or null. Valid until the next add().
  [[nodiscard]] const nlohmann::json* flow(std::uint64_t id) const;
  /// Entries that were dropped because there was no room.
  [[nodiscard]] std::uint64_t left_out() const { return left_out_; }

 private:
  struct Denial {
    std::uint64_t id = 0;
    std::uint64_t change = 0;
    std::uint64_t count = 0;
    std::string key;
    std::string owner;
    nlohmann::json flow;
    nlohmann::json shown;
  };
  void drop_one();

  std::size_t most_;
  std::list<Denial> denials_;  // newest first
  std::map<std::string, std::list<Denial>::iterator> by_key_;
  std::map<std::string, std::size_t> by_owner_;  // number of entries
  std::uint64_t next_id_ = 0;
  std::uint64_t left_out_ = 0;
};

}  // namespace trireme::cli
