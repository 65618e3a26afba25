// SPDX-License-Identifier: Apache-2.0
// A host whose own certificate is not valid now reports that itself, immediately, and does not wait
// for its peers to refuse.
#include <gtest/gtest.h>

#include "credentials_support.hpp"
#include "handshake_support.hpp"

namespace trireme::handshake {
namespace {

class Dates : public testing::Test {
 protected:
  [[nodiscard]] std::shared_ptr<const credentials::Trust> trust(const std::string& until) {
    credentials::TestKey key;
    credentials::CertificateSpec spec;
    spec.to = until;
    credentials::TrustMaterial material;
    material.host_name = "web-1";
    material.certificate = credentials::file("host.pem", authority_.issue(spec, key));
    material.key = credentials::file("host.key", key.pem());
    material.authorities = {credentials::file("ca.pem", authority_.certificate)};
    return credentials::Trust::load(material, nullptr, credentials::day(2026, 3, 1)).value();
  }
  [[nodiscard]] End end(const std::string& until) {
    End end(trust(until), "app=web");
    end.now.wall = credentials::day(2026, 7, 1);
    return end;
  }

  credentials::TestAuthority authority_;
  Connection connection_;
};

TEST_F(Dates, AnExpiredClientAsksNobodyElsewhere) {
  End client = end("20260601000000");
  EXPECT_EQ(client.out(connection_.syn()).ruling, abi::Ruling::refuse);
  EXPECT_EQ(client.refused(Reason::own_expired), 1U);
  ASSERT_EQ(client.events.size(), 1U);
  EXPECT_EQ(client.events.front().reason, Reason::own_expired);
}

TEST_F(Dates, AnExpiredServerAnswersNobodyElsewhere) {
  End client = end("20270101000000");
  End server = end("20260601000000");
  const Outcome asked = client.out(connection_.syn());
  ASSERT_EQ(asked.ruling, abi::Ruling::pass);
  EXPECT_EQ(server.in(asked.packet).ruling, abi::Ruling::refuse);
  EXPECT_EQ(server.refused(Reason::own_expired), 1U);
}

TEST_F(Dates, WhatStaysOnThisHostGoesOn) {
  End client = end("20260601000000");
  connection_.ends.destination = address("172.17.0.2");  // not in [host] peers
  EXPECT_EQ(client.out(connection_.syn()).ruling, abi::Ruling::pass);
}

}  // namespace
}  // namespace trireme::handshake
