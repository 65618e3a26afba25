// SPDX-License-Identifier: Apache-2.0
// Parses random packets and compares the result with the fields that they were written from. Also
// parses randomly damaged packets. A million cases with TRIREME_LONG=1.
#include "trireme/wire/token.hpp"
#include "wire_support.hpp"

namespace trireme::wire {
namespace {

const Octets kProofPrefix = hex("fd14 5433");

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  std::size_t pick(std::size_t below) { return random_() % below; }

  Octets some(std::size_t size) {
    Octets bytes(size);
    std::uint32_t word = 0;
    for (std::size_t i = 0; i < size; ++i) {
      word = i % 4 == 0 ? static_cast<std::uint32_t>(random_()) : word >> 8U;
      bytes[i] = static_cast<std::uint8_t>(word);
    }
    return bytes;
  }

  Packet packet() {
    Packet packet;
    packet.v6 = pick(2) == 0;
    packet.traffic_class = static_cast<std::uint8_t>(random_());
    if (packet.v6) {
      packet.flow_label = pick(1U << 20U);
      packet.six = some(32);
      packet.extensions = extensions();
    } else {
      packet.four = some(8);
      packet.ip_options = ip_options();
    }
    packet.source_port = static_cast<std::uint16_t>(random_());
    packet.destination_port = static_cast<std::uint16_t>(random_());
    packet.sequence = static_cast<std::uint32_t>(random_());
    packet.acknowledgement = static_cast<std::uint32_t>(random_());
    packet.flags = static_cast<std::uint8_t>(random_());
    packet.window = static_cast<std::uint16_t>(random_());
    packet.urgent = static_cast<std::uint16_t>(random_());
    packet.data = some(pick(3) == 0 ? pick(100) : 0);
    return packet;
  }

  /// An option other than PROOF, Fast Open and MPTCP.
  Octets option() {
    switch (pick(8)) {
      case 0:
        return {1};
      case 1:
        return join({hex("0204"), pick(2) == 0 ? hex("0218") : some(2)});
      case 2:
        return hex("0402");
      case 3:
        return join({hex("0303"), some(1)});
      case 4:
        return join({hex("080a"), some(8)});
      case 5:
        return join({hex("050a"), some(8)});
      case 6:
        return join({hex("1312"), some(16)});
      default: {
        const std::size_t size = pick(6);
        return join(
            {{static_cast<std::uint8_t>(100 + pick(100)), static_cast<std::uint8_t>(2 + size)},
             some(size)});
      }
    }
  }

  /// An option that conflicts with a token.
  Octets option_of_data() {
    switch (pick(4)) {
      case 0:
        return hex("2202");
      case 1:
        return join({hex("220a"), some(8)});
      case 2:
        return join({hex("fe0c f989"), some(8)});
      default:
        return join({hex("1e0c"), some(10)});
    }
  }

  /// Random options of at most `room` bytes; sometimes exactly `room`.
  std::vector<Octets> options(std::size_t room) {
    std::vector<Octets> list;
    for (std::size_t tries = pick(12), used = 0; tries > 0; --tries) {
      const Octets next = option();
      if (used + next.size() <= room) {
        list.push_back(next);
        used += next.size();
      }
    }
    return list;
  }

 private:
  std::vector<std::pair<std::uint8_t, Octets>> extensions() {
    std::vector<std::pair<std::uint8_t, Octets>> list;
    for (std::size_t count = pick(4); count > 0; --count) {
      constexpr std::array<std::uint8_t, 4> kTypes = {0, 43, 60, 51};
      const std::uint8_t type = kTypes.at(pick(4));
      const std::size_t units = pick(4);
      Octets bytes = type == 51
                         ? join({{static_cast<std::uint8_t>(units * 2)}, some(units * 8 + 6)})
                         : join({{static_cast<std::uint8_t>(units)}, some(units * 8 + 6)});
      if (type == 43) {
        bytes[2] = 0;  // segments left
      }
      list.emplace_back(type, bytes);
    }
    return list;
  }

  Octets ip_options() {
    const std::size_t words = pick(2) == 0 ? 0 : pick(11);
    Octets options;
    while (options.size() < words * 4) {
      const std::size_t left = words * 4 - options.size();
      const std::size_t size = 2 + pick(12);
      options = join(
          {options, size > left ? Octets{1}
                                : join({{0x94, static_cast<std::uint8_t>(size)}, some(size - 2)})});
    }
    return options;
  }

  std::mt19937 random_;
};

/// Pads to whole words, with NOPs or with an end-of-options and random bytes after it.
Octets padded(const std::vector<Octets>& list, Generator& generator) {
  Octets options;
  for (const auto& option : list) {
    options = join({options, option});
  }
  const bool ended = generator.pick(2) == 0;
  for (bool first = true; options.size() % 4 != 0; first = false) {
    options.push_back(!ended ? 1 : first ? 0 : static_cast<std::uint8_t>(generator.pick(256)));
  }
  return options;
}

void expect_fields(const Segment& segment, const Packet& packet, const Octets& bytes) {
  const Ends ends = segment.ends();
  const Octets addresses = packet.v6 ? packet.six : packet.four;
  const std::size_t size = addresses.size() / 2;
  ASSERT_EQ(ends.source.size(), size);
  EXPECT_EQ(octets(std::span(ends.source.bytes).first(size)), slice(addresses, 0, size));
  EXPECT_EQ(octets(std::span(ends.destination.bytes).first(size)), slice(addresses, size, size));
  EXPECT_EQ(ends.source_port, packet.source_port);
  EXPECT_EQ(ends.destination_port, packet.destination_port);
  EXPECT_EQ(segment.sequence(), packet.sequence);
  EXPECT_EQ(segment.acknowledgement(), packet.acknowledgement);
  EXPECT_EQ(segment.flags(), packet.flags);
  EXPECT_EQ(segment.window(), packet.window);
  EXPECT_EQ(segment.traffic_class(), packet.traffic_class);
  EXPECT_EQ(segment.flow_label(), packet.v6 ? packet.flow_label : 0);
  EXPECT_EQ(segment.tcp_offset(), packet.tcp_offset());
  EXPECT_EQ(segment.header_size(), bytes.size() - packet.data.size());
  EXPECT_EQ(octets(segment.payload()), packet.data);
}

/// The data of the first option of this kind and size, without kind and length. Empty if there is
/// none.
Octets first_of(const std::vector<Octets>& list, std::uint8_t kind, std::size_t size) {
  for (const auto& option : list) {
    if (option.size() == size && option[0] == kind) {
      return slice(option, 2, size - 2);
    }
  }
  return {};
}

void expect_options(const Segment& segment, const std::vector<Octets>& list, bool authenticated) {
  const Octets stamps = first_of(list, 8, 10);
  ASSERT_EQ(segment.timestamps().has_value(), !stamps.empty());
  if (!stamps.empty()) {
    EXPECT_EQ(join({number(segment.timestamps()->value, 4), number(segment.timestamps()->echo, 4)}),
              stamps);
  }
  const Octets scale = first_of(list, 3, 3);
  ASSERT_EQ(segment.window_scale().has_value(), !scale.empty());
  EXPECT_TRUE(scale.empty() || *segment.window_scale() == std::min<unsigned>(14, scale[0]));
  EXPECT_EQ(segment.is_signed(), authenticated || !first_of(list, 19, 18).empty());
}

bool has_authentication(const Packet& packet) {
  for (const auto& extension : packet.extensions) {
    if (extension.first == 51) {
      return true;
    }
  }
  return false;
}

Octets attached(const Segment& segment, const Octets& token) {
  PacketBuffer out;
  EXPECT_TRUE(attach(segment, token, out));
  return octets(out);
}

Octets stripped(const Octets& bytes) {
  PacketBuffer out;
  const auto segment = parse(bytes);
  EXPECT_TRUE(segment && strip(*segment, out));
  return octets(out);
}

TEST(PacketProperty, ParseReadsWhatWasWrittenAndStripUndoesAttach) {
  const int count = cases(6'000, 100'000);
  Generator generator(20240301);
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(i);
    Packet packet = generator.packet();
    const auto list = generator.options(40);
    packet.options = padded(list, generator);
    const Octets bytes = packet.bytes();
    ASSERT_EQ(faults(bytes, packet.tcp_offset()), "") << "the packet that the test wrote";
    const auto segment = parse(bytes);
    ASSERT_TRUE(segment) << text(segment.error());
    expect_fields(*segment, packet, bytes);
    expect_options(*segment, list, has_authentication(packet));

    const Octets token = generator.some(
        generator.pick(8) == 0 ? generator.pick(token_room(*segment) + 1) : generator.pick(64));
    const Octets with_token = attached(*segment, token);
    EXPECT_LE(with_token.size(), kMaxTokenPacket);
    EXPECT_EQ(stripped(with_token), stripped(bytes));
    packet.data = token;
    EXPECT_EQ(with_token, packet.bytes());
    packet.data.clear();
    EXPECT_EQ(stripped(bytes), packet.bytes());
  }
}

TEST(PacketProperty, WhatNeedsDataBecomesPadding) {
  const int count = cases(3'000, 60'000);
  Generator generator(20240302);
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(i);
    Packet packet = generator.packet();
    packet.data.clear();
    auto list = generator.options(24);
    auto expected = list;
    const std::size_t place = generator.pick(list.size() + 1);
    const Octets removed = generator.option_of_data();
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(place), removed);
    expected.insert(expected.begin() + static_cast<std::ptrdiff_t>(place),
                    Octets(removed.size(), 1));
    Generator same = generator;
    packet.options = padded(list, generator);
    const Octets bytes = packet.bytes();
    packet.options = padded(expected, same);
    packet.data = generator.some(generator.pick(100));
    const auto segment = parse(bytes);
    ASSERT_TRUE(segment);
    EXPECT_EQ(attached(*segment, packet.data), packet.bytes());
  }
}

TEST(PacketProperty, ProofIsFoundAndRemovedWhereverItStands) {
  const int count = cases(3'000, 60'000);
  Generator generator(20240303);
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(i);
    Packet packet = generator.packet();
    auto list = generator.options(20);
    const Octets tag = generator.some(16);
    const std::size_t place = generator.pick(list.size() + 1);
    Generator same = generator;
    packet.options = padded(list, same);
    const Octets without = packet.bytes();
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(place), join({kProofPrefix, tag}));
    packet.options = padded(list, generator);
    const Octets bytes = packet.bytes();
    const auto segment = parse(bytes);
    ASSERT_TRUE(segment && segment->proof());
    EXPECT_EQ(octets(*segment->proof()), tag);
    PacketBuffer out;
    ASSERT_TRUE(strip_proof(*segment, out));
    EXPECT_EQ(octets(out), without);
  }
}

/// Calls every accessor of the segment, so that the sanitizers detect reads beyond it.
void exercise(const Octets& bytes, std::size_t length) {
  const auto segment = Segment::parse(bytes, length);
  if (!segment) {
    return;
  }
  EXPECT_LE(segment->header_size(), bytes.size());
  EXPECT_LE(segment->tcp_offset() + 20, segment->header_size());
  EXPECT_EQ(segment->header_size() + segment->payload_size(), length);
  (void)segment->ends();
  (void)segment->timestamps();
  (void)segment->window_scale();
  (void)segment->is_signed();
  PacketBuffer out;
  const auto written = [&](bool good) {
    if (good) {
      const auto again = Segment::parse(out.view(), out.size);
      EXPECT_TRUE(again && again->ends() == segment->ends() &&
                  again->tcp_offset() <= segment->tcp_offset());
      EXPECT_EQ(faults(octets(out), again->tcp_offset()), "");
    }
    return good;
  };
  const bool whole = bytes.size() == length;
  EXPECT_EQ(written(strip(*segment, out)), whole);
  EXPECT_EQ(
      written(attach(*segment, Octets(std::min<std::size_t>(token_room(*segment), 50), 1), out)),
      whole);
  EXPECT_EQ(written(strip_proof(*segment, out)), whole && segment->proof());
  write_reset(*segment, out);
  written(true);
}

TEST(PacketProperty, DamageNeverCrashes) {
  const int count = cases(6'000, 100'000);
  Generator generator(20240304);
  int read = 0;
  for (int i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE(i);
    Packet packet = generator.packet();
    packet.options = padded(generator.options(40), generator);
    Octets bytes = packet.bytes();
    const std::size_t header = bytes.size() - packet.data.size();
    for (std::size_t flips = generator.pick(4); flips > 0; --flips) {
      bytes[generator.pick(header)] ^= static_cast<std::uint8_t>(1U << generator.pick(8));
    }
    const std::size_t length = bytes.size();
    const Octets copied =
        generator.pick(3) == 0 ? slice(bytes, 0, generator.pick(length)) : Octets(bytes);
    exercise(copied, length);
    exercise(copied, copied.size());
    read += Segment::parse(copied, length) ? 1 : 0;
  }
  EXPECT_GT(read, count / 8) << "all damaged packets are rejected";
  EXPECT_LT(read, count - count / 8) << "all damaged packets are accepted";
}

}  // namespace
}  // namespace trireme::wire
