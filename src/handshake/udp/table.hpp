// SPDX-License-Identifier: Apache-2.0
// Table of UDP handshakes, in progress and recently completed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "aged_table.hpp"
#include "conversation.hpp"
#include "held.hpp"

namespace trireme::handshake {

enum class Stage : std::uint8_t {
  asking,    // client: HELLO was sent, REPLY is awaited
  proving,   // client: PROOF was sent, the flow is authorized, READY is awaited
  answered,  // server: REPLY was sent, PROOF is awaited
  complete,  // authorized by proof
  open,      // client: nothing was proved; policy allows the peer without labels
  refused,
};

struct DatagramExchange : Conversation {
  Stage stage = Stage::asking;
  bool is_closing = false;  // the handshake ends the flow instead of authorizing it
  bool took_over = false;  // server: the conntrack entry is another workload's until PROOF is valid
  bool was_open = false;   // with is_renewing: the flow was authorized without proof
  bool is_renewing = false;   // the flow is authorized, and stays so until the handshake has ended
  std::uint8_t attempts = 0;  // repetitions of the current message
  std::uint8_t failures = 0;  // handshakes in a row without an answer
  Milliseconds began{};       // start of the handshake
  Milliseconds proved{};      // when a valid REPLY (client) or PROOF (server) arrived
  Milliseconds refused_until{};  // no HELLO before this time
  /// If is_closing: the workload or unlabeled process that has the ports now. Its datagrams wait.
  std::shared_ptr<const LocalIdentity> successor;
  Held held;
};

class DatagramTable {
 public:
  /// Intervals between repetitions of HELLO or PROOF. After the last one, the exchange times out.
  static constexpr std::array<Milliseconds, 7> kRepeat = {
      Milliseconds{100}, Milliseconds{150}, Milliseconds{250}, Milliseconds{400},
      Milliseconds{600}, Milliseconds{700}, Milliseconds{800}};
  static constexpr Milliseconds kAnswered{10'000};
  static constexpr Milliseconds kFinished{60'000};

  DatagramTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  [[nodiscard]] DatagramExchange* find(const FlowKey& key) { return table_.find(key); }
  /// Adds an exchange with only `key`, `since` and `began` set. There must be no exchange with this
  /// key, and surplus() must be null.
  DatagramExchange& make(const FlowKey& key, const Owner& owner, Milliseconds now);
  /// The exchange is due again after kRepeat[attempts].
  void repeat(DatagramExchange& exchange, Milliseconds now);
  /// Sets stage answered. The exchange is due after kAnswered.
  void await_proof(DatagramExchange& exchange, Milliseconds now);
  /// Sets a final stage. The exchange is remembered for kFinished.
  void finish(DatagramExchange& exchange, Stage stage, Milliseconds now);
  void remove(DatagramExchange& exchange) { table_.remove(exchange); }

  /// The next exchange that is due, or null. It stays due until one of the functions above is
  /// called for it.
  [[nodiscard]] DatagramExchange* due(Milliseconds now);
  /// When the next exchange is due; nullopt: the table is empty.
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// The exchange to evict for a new one if the table is full; otherwise null.
  [[nodiscard]] DatagramExchange* surplus() { return table_.surplus(); }
  [[nodiscard]] DatagramExchange& at(std::uint32_t index) { return table_.at(index); }
  [[nodiscard]] std::uint32_t index(const DatagramExchange& exchange) const {
    return table_.index(exchange);
  }
  [[nodiscard]] const Shares& shares() const { return table_.shares(); }
  /// Calls `what` with each exchange of the point. `what` may remove the exchange.
  template <typename What>
  void each_of_point(PointId point, const What& what) {
    table_.each_of_point(point, what);
  }

  [[nodiscard]] std::size_t size() const { return table_.size(); }

 private:
  // Lists: one for each repetition, then these.
  static constexpr std::size_t kAnsweredList = kRepeat.size(), kFinishedList = kAnsweredList + 1,
                               kLists = kFinishedList + 1;
  [[nodiscard]] static Milliseconds age(std::size_t list);

  AgedTable<DatagramExchange, kLists> table_;
};

}  // namespace trireme::handshake
