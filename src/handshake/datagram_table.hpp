// Handshakes of UDP flows: bounded, each on a list of those that wait equally long, so that time costs nothing per handshake.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "budget.hpp"
#include "flow_table.hpp"
#include "held.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

enum class Stage : std::uint8_t {
  asking,    // client: HELLO is sent, REPLY awaited
  proving,   // client: PROOF is sent, the flow authorised, READY awaited
  answered,  // server: REPLY is sent, PROOF awaited
  complete,  // authorised by proof
  open,      // client: nothing was proved; policy allows the peer as one without labels
  refused,
};

struct DatagramExchange {
  FlowKey key;
  Stage stage = Stage::asking;
  bool is_closing = false;   // it ends the flow instead of authorising it
  bool took_over = false;    // server: conntrack's entry is another's until PROOF holds
  bool was_open = false;     // with is_renewing: it was authorised without proof
  bool is_renewing = false;  // the flow is authorised, and stays so until this has ended
  std::uint8_t attempts = 0;
  std::uint8_t failures = 0;     // refusals in a row for want of an answer
  Milliseconds since{};          // of the list that it is on
  Milliseconds began{};          // of the handshake
  Milliseconds proved{};         // when REPLY, or PROOF, held
  Milliseconds refused_until{};  // no HELLO before
  std::shared_ptr<const credentials::Trust> trust;
  wire::CredentialType type = wire::CredentialType::local;
  std::shared_ptr<const LocalIdentity> local;
  std::shared_ptr<const RemoteIdentity> remote;   // number 0 until it was proved
  std::shared_ptr<const credentials::Peer> peer;  // as `trust` verified it
  Nonce client_nonce{};
  Nonce server_nonce{};
  Digest hello{};  // T1
  Tag proof{};
  Tag ready{};
  // What our own datagrams of this flow look like.
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  std::uint32_t flow_label = 0;
  std::uint8_t traffic_class = 0;
  bool translated = false;
  Held held;
};

class DatagramTable {
 public:
  /// Repetitions: the time from the first to the second HELLO, and so on; after the last one it is over.
  static constexpr std::array<Milliseconds, 7> kRepeat = {Milliseconds{100}, Milliseconds{150}, Milliseconds{250}, Milliseconds{400},
                                                          Milliseconds{600}, Milliseconds{700}, Milliseconds{800}};
  static constexpr Milliseconds kAnswered{10'000};
  static constexpr Milliseconds kSettled{60'000};

  /// Half-open exchanges of servers are counted against their clients' share in `budget`.
  DatagramTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  [[nodiscard]] DatagramExchange* find(const FlowKey& key);
  /// A new exchange, of which only the key is set. None with this key may be there, and surplus() is null.
  DatagramExchange& make(const FlowKey& key, Milliseconds now);
  /// Due again when kRepeat[attempts] has passed.
  void repeat(DatagramExchange& exchange, Milliseconds now);
  /// Due when the client has had long enough to prove.
  void await_proof(DatagramExchange& exchange, Milliseconds now);
  /// Remembered for a while.
  void settle(DatagramExchange& exchange, Stage stage, Milliseconds now);
  void remove(DatagramExchange& exchange);

  /// The next exchange whose time has come, or null. It stays due until one of the above is called for it.
  [[nodiscard]] DatagramExchange* due(Milliseconds now);
  /// When that will be; nullopt: never.
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// The one to be given up for another, where the table is full; null where it is not.
  [[nodiscard]] DatagramExchange* surplus();
  /// The next exchange of the point, or null.
  [[nodiscard]] DatagramExchange* of_point(PointId point);

  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  // Lists: one for each repetition, then these.
  static constexpr std::size_t kAnsweredList = kRepeat.size(), kSettledList = kAnsweredList + 1, kFreeList = kSettledList + 1,
                               kLists = kFreeList + 1;
  struct Slot {
    DatagramExchange exchange;
    Index next_in_bucket = kNone;
    Index older = kNone;
    Index newer = kNone;
    std::size_t list = kFreeList;
    bool half_open = false;  // counted
  };
  struct Ends {
    Index oldest = kNone;
    Index newest = kNone;
  };
  [[nodiscard]] static Milliseconds age(std::size_t list);
  [[nodiscard]] std::size_t bucket(const FlowKey& key) const;
  [[nodiscard]] Index index(const DatagramExchange& exchange) const;
  void move(DatagramExchange& exchange, std::size_t list, Milliseconds now);
  void append(Index slot, std::size_t list);
  void unlink(Index slot);
  void close(Slot& slot);

  std::vector<Slot> slots_;  // grows to the capacity and stays
  std::size_t capacity_;
  std::vector<Index> buckets_;
  std::array<Ends, kLists> lists_;
  std::uint64_t seed_;
  Budget& budget_;
  std::size_t size_ = 0;
};

}  // namespace trireme::handshake
