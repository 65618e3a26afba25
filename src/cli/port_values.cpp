// SPDX-License-Identifier: Apache-2.0
// Ports as values of options. In a file of its own, so that trirun does not link it.
#include <netdb.h>
#include <netinet/in.h>

#include <array>

#include "trireme/policy/ports.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

std::optional<std::uint16_t> find_service(const std::string& name, std::uint8_t protocol) {
  servent entry{};
  servent* found = nullptr;
  std::array<char, 4096> buffer{};
  const char* protocol_name = protocol == IPPROTO_TCP ? "tcp" : "udp";
  if (::getservbyname_r(name.c_str(), protocol_name, &entry, buffer.data(), buffer.size(),
                        &found) != 0 ||
      found == nullptr) {
    return std::nullopt;
  }
  return ntohs(static_cast<std::uint16_t>(found->s_port));
}

/// Replaces the value by the ports that `parse` reads from it, with numbers.
CLI::Validator with_numbers(Result<policy::PortRange> (*parse)(std::string_view,
                                                               const policy::ServiceLookup&)) {
  return {[parse](std::string& value) {
            const auto range = parse(value, find_service);
            if (!range) {
              return range.error().text();
            }
            value = policy::text(*range);
            return std::string();
          },
          ""};
}

}  // namespace

CLI::Validator ports() {
  return with_numbers(policy::parse_ports);
}

CLI::Validator one_port() {
  return with_numbers(policy::parse_port);
}

}  // namespace trireme::cli
