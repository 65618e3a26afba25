// SPDX-License-Identifier: Apache-2.0
// Handshakes of UDP flows, and those that ended a moment ago.
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
  asking,    // client: HELLO is sent, REPLY awaited
  proving,   // client: PROOF is sent, the flow authorised, READY awaited
  answered,  // server: REPLY is sent, PROOF awaited
  complete,  // authorised by proof
  open,      // client: nothing was proved; policy allows the peer as one without labels
  refused,
};

struct DatagramExchange : Conversation {
  Stage stage = Stage::asking;
  bool is_closing = false;   // it ends the flow instead of authorising it
  bool took_over = false;    // server: conntrack's entry is another's until PROOF holds
  bool was_open = false;     // with is_renewing: it was authorised without proof
  bool is_renewing = false;  // the flow is authorised, and stays so until this has ended
  std::uint8_t attempts = 0;
  std::uint8_t failures = 0;     // refusals in a row for want of an answer
  Milliseconds began{};          // of the handshake
  Milliseconds proved{};         // when REPLY, or PROOF, held
  Milliseconds refused_until{};  // no HELLO before
  std::shared_ptr<const LocalIdentity>
      successor;  // closing: the workload that has the ports now, whose datagrams wait
  Held held;
};

class DatagramTable {
 public:
  /// Repetitions: the time from the first to the second HELLO, and so on; after the last one it is
  /// over.
  static constexpr std::array<Milliseconds, 7> kRepeat = {
      Milliseconds{100}, Milliseconds{150}, Milliseconds{250}, Milliseconds{400},
      Milliseconds{600}, Milliseconds{700}, Milliseconds{800}};
  static constexpr Milliseconds kAnswered{10'000};
  static constexpr Milliseconds kSettled{60'000};

  DatagramTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  [[nodiscard]] DatagramExchange* find(const FlowKey& key) { return table_.find(key); }
  /// A new exchange, of which only the key is set. None with this key may be there, and surplus()
  /// is null.
  DatagramExchange& make(const FlowKey& key, const Owner& owner, Milliseconds now);
  /// Due again when kRepeat[attempts] has passed.
  void repeat(DatagramExchange& exchange, Milliseconds now);
  /// Due when the client has had long enough to prove.
  void await_proof(DatagramExchange& exchange, Milliseconds now);
  /// Remembered for a while.
  void settle(DatagramExchange& exchange, Stage stage, Milliseconds now);
  void remove(DatagramExchange& exchange) { table_.remove(exchange); }

  /// The next exchange whose time has come, or null. It stays due until one of the above is called
  /// for it.
  [[nodiscard]] DatagramExchange* due(Milliseconds now);
  /// When that will be; nullopt: never.
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// The one to be given up for another, where the table is full; null where it is not.
  [[nodiscard]] DatagramExchange* surplus() { return table_.surplus(); }
  [[nodiscard]] DatagramExchange& at(std::uint32_t index) { return table_.at(index); }
  [[nodiscard]] std::uint32_t index(const DatagramExchange& exchange) const {
    return table_.index(exchange);
  }
  [[nodiscard]] const Shares& shares() const { return table_.shares(); }
  /// `what` is called with each exchange of the point, and may remove it.
  template <typename What>
  void each_of_point(PointId point, const What& what) {
    table_.each_of_point(point, what);
  }

  [[nodiscard]] std::size_t size() const { return table_.size(); }

 private:
  // Lists: one for each repetition, then these.
  static constexpr std::size_t kAnsweredList = kRepeat.size(), kSettledList = kAnsweredList + 1,
                               kLists = kSettledList + 1;
  [[nodiscard]] static Milliseconds age(std::size_t list);

  AgedTable<DatagramExchange, kLists> table_;
};

}  // namespace trireme::handshake
