// SPDX-License-Identifier: Apache-2.0
#include "udp/table.hpp"

namespace trireme::handshake {

DatagramTable::DatagramTable(std::size_t capacity, std::uint64_t seed, Budget& budget)
    : table_(capacity, seed, &budget) {}

Milliseconds DatagramTable::age(std::size_t list) {
  return list < kRepeat.size() ? kRepeat.at(list) : list == kAnsweredList ? kAnswered : kFinished;
}

DatagramExchange& DatagramTable::make(const FlowKey& key, const Owner& owner, Milliseconds now) {
  DatagramExchange& made = table_.make(key, owner, kFinishedList, now);
  made.began = now;
  return made;
}

void DatagramTable::repeat(DatagramExchange& exchange, Milliseconds now) {
  table_.move(exchange, exchange.attempts, now);
}

void DatagramTable::await_proof(DatagramExchange& exchange, Milliseconds now) {
  exchange.stage = Stage::answered;
  table_.move(exchange, kAnsweredList, now);
}

void DatagramTable::finish(DatagramExchange& exchange, Stage stage, Milliseconds now) {
  exchange.stage = stage;
  table_.close(exchange);
  table_.move(exchange, kFinishedList, now);
}

DatagramExchange* DatagramTable::due(Milliseconds now) {
  for (std::size_t list = 0; list < kLists; list++) {
    DatagramExchange* oldest = table_.oldest(list);
    if (oldest != nullptr && oldest->since + age(list) <= now) {
      return oldest;
    }
  }
  return nullptr;
}

std::optional<Milliseconds> DatagramTable::next_due() const {
  std::optional<Milliseconds> next;
  for (std::size_t list = 0; list < kLists; list++) {
    if (const DatagramExchange* oldest = table_.oldest(list)) {
      const Milliseconds when = oldest->since + age(list);
      next = next ? std::min(*next, when) : when;
    }
  }
  return next;
}

}  // namespace trireme::handshake
