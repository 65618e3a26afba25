// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/identities.hpp"

namespace trireme::handshake {
namespace {

credentials::Bytes bytes(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

LocalIdentity::LocalIdentity(policy::Number given, policy::LabelSet set)
    : number(given),
      labels(std::move(set)),
      encoded(labels.encode()),
      hash(credentials::sha256({bytes(encoded)})) {}

}  // namespace trireme::handshake
