// SPDX-License-Identifier: Apache-2.0
#include "trireme/names/reader.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "names_support.hpp"

namespace trireme::names {
namespace {

const Bytes kMessage = Message{.answers = {a("@12", "10.0.0.1")}}.bytes();

Reading read(Reader& reader, const Bytes& packet) {
  return reader.read(packet, packet.size());
}

Bytes part(const Bytes& bytes, std::size_t first, std::size_t last) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(first),
          bytes.begin() + static_cast<std::ptrdiff_t>(last)};
}

TEST(Reader, ADatagramIsOneAnswer) {
  Reader reader;
  for (const bool v6 : {false, true}) {
    const Reading reading = read(reader, datagram(kMessage, v6));
    EXPECT_EQ(reading.protocol, IPPROTO_UDP);
    EXPECT_EQ(reading.ends.source.text(), v6 ? "fd00::53" : "10.0.0.53");
    EXPECT_EQ(reading.ends.destination_port, 4000);
    ASSERT_EQ(reading.answers.size(), 1U);
    EXPECT_EQ(reading.answers[0].name, "deb.example.org");
  }
}

TEST(Reader, WhatIsNotWholeIsNoDatagram) {
  Reader reader;
  const Bytes whole = datagram(kMessage);
  EXPECT_TRUE(reader.read(whole, whole.size() + 1).answers.empty()) << "a truncated copy";
  for (std::size_t size = 0; size < whole.size(); size++) {
    EXPECT_TRUE(read(reader, part(whole, 0, size)).answers.empty()) << size;
  }
  Bytes fragment = whole;
  fragment[6] = 0x20;
  EXPECT_TRUE(read(reader, fragment).answers.empty());
  Bytes other = whole;
  other[9] = 132;
  EXPECT_TRUE(read(reader, other).answers.empty());
}

TEST(Reader, AMessageInTcpCountsWithTheSegmentThatCompletesIt) {
  const Bytes stream = prefixed(kMessage);
  for (std::size_t cut = 1; cut < stream.size(); cut++) {
    Reader reader;
    EXPECT_TRUE(read(reader, segment(999, {}, 0x12)).answers.empty());  // SYN-ACK
    EXPECT_TRUE(read(reader, segment(1000, part(stream, 0, cut))).answers.empty()) << cut;
    EXPECT_EQ(reader.buffered(), cut);
    EXPECT_EQ(read(reader, segment(1000 + static_cast<std::uint32_t>(cut),
                                   part(stream, cut, stream.size())))
                  .answers.size(),
              1U)
        << cut;
    EXPECT_EQ(reader.buffered(), 0U);
  }
}

TEST(Reader, SeveralMessagesInOneSegmentAndARestOfTheNext) {
  Reader reader;
  Bytes stream = prefixed(kMessage);
  put(stream, stream);
  put(stream, part(stream, 0, 5));
  EXPECT_EQ(read(reader, segment(0xfffffff0U, stream)).answers.size(), 2U);
  EXPECT_EQ(reader.buffered(), 5U);
}

TEST(Reader, ASegmentAheadIsEarlyAndOneThatRepeatsIsOld) {
  Reader reader;
  const Bytes stream = prefixed(kMessage);
  EXPECT_FALSE(read(reader, segment(1000, part(stream, 0, 10))).early);
  EXPECT_TRUE(read(reader, segment(1020, part(stream, 20, 30))).early);
  EXPECT_FALSE(read(reader, segment(1000, part(stream, 0, 10))).early);
  EXPECT_EQ(read(reader, segment(1005, part(stream, 5, stream.size()))).answers.size(), 1U)
      << "overlaps with earlier segments";
}

TEST(Reader, PortsThatAreUsedAgainBeginAnew) {
  Reader reader;
  const Bytes stream = prefixed(kMessage);
  read(reader, segment(1000, part(stream, 0, 10)));
  read(reader, segment(4999, {}, 0x12));
  EXPECT_EQ(read(reader, segment(5000, stream)).answers.size(), 1U);
  EXPECT_EQ(read(reader, segment(0x80000000U, stream)).answers.size(), 1U)
      << "far away: a new connection whose SYN-ACK was missed";
}

TEST(Reader, ALateCopyOfTheSynAckChangesNothing) {
  Reader reader;
  const Bytes stream = prefixed(kMessage);
  read(reader, segment(999, {}, 0x12));
  read(reader, segment(1000, part(stream, 0, 10)));
  EXPECT_FALSE(read(reader, segment(999, {}, 0x12)).early);
  EXPECT_EQ(read(reader, segment(1010, part(stream, 10, stream.size()))).answers.size(), 1U);
}

TEST(Reader, AfterASegmentThatWasNotSeenAsAWholeItGoesOn) {
  Reader reader;
  const Bytes stream = prefixed(kMessage);
  read(reader, segment(999, {}, 0x12));
  const Bytes large = segment(1000, Bytes(500, 0));
  EXPECT_FALSE(reader.read(std::span(large).first(100), large.size()).early);
  const Reading next = read(reader, segment(1500, stream));
  EXPECT_FALSE(next.early) << "the sender would not retransmit the accepted segment";
  EXPECT_EQ(next.answers.size(), 1U);
}

TEST(Reader, ConnectionsAreBounded) {
  Reader reader;
  for (int i = 0; i < 100'000; i++) {
    Bytes packet = segment(1, Bytes(1000, 0xff));
    packet[12] = static_cast<std::uint8_t>(i >> 16U);
    packet[13] = static_cast<std::uint8_t>(i >> 8U);
    packet[14] = static_cast<std::uint8_t>(i);
    read(reader, packet);
  }
  EXPECT_LE(reader.buffered(), 128'000U);
}

}  // namespace
}  // namespace trireme::names
