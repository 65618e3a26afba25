#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <cstring>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"
#include "trireme/control/explain_json.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

struct Question {
  std::string from;
  std::string to;
  std::string port;
};

/// Addresses of this network namespace: what @host speaks from.
std::vector<policy::Address> local_addresses() {
  std::vector<policy::Address> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return addresses;
  }
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) {
      continue;
    }
    policy::Address address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      std::memcpy(address.bytes.data(), &v4->sin_addr, sizeof v4->sin_addr);
      addresses.push_back(address);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      address.family = policy::Address::Family::v6;
      std::memcpy(address.bytes.data(), &v6->sin6_addr, sizeof v6->sin6_addr);
      addresses.push_back(address);
    }
  }
  ::freeifaddrs(list);
  return addresses;
}

/// Without the daemon: the files of a directory decide, and no live workload has a name.
Result<nlohmann::json> explain_locally(const std::string& directory, const Question& question) {
  const auto configuration = config::load(directory);
  for (const auto& diagnostic : configuration.diagnostics) {
    if (is_error(diagnostic)) {
      return fail("the policy of " + directory + " is not valid: " + diagnostic.text(), "'trirectl policy check' shows every error");
    }
  }
  policy::PeerLookup lookup;
  lookup.is_local = [addresses = local_addresses()](const policy::Address& address) {
    return std::find(addresses.begin(), addresses.end(), address) != addresses.end();
  };
  const auto from = policy::parse_peer(question.from, configuration.policy, lookup);
  if (!from) {
    return tl::unexpected(from.error());
  }
  const auto to = policy::parse_peer(question.to, configuration.policy, lookup);
  if (!to) {
    return tl::unexpected(to.error());
  }
  const auto port = policy::parse_port(question.port);
  if (!port) {
    return tl::unexpected(port.error());
  }
  return control::to_json(policy::explain(configuration.policy, *from, *to, port->protocol, port->first));
}

int explain(const Globals& globals, const Question& question) {
  const auto answer = globals.config_dir.empty()
                          ? ask(globals, control::method::explain, {{"from", question.from}, {"to", question.to}, {"port", question.port}})
                          : explain_locally(globals.config_dir, question);
  if (!answer) {
    return report(globals, answer.error());
  }
  if (globals.json) {
    print_json(*answer);
  } else {
    fmt::print("{}", answer->value("text", ""));
  }
  return answer->value("passes", false) ? kYes : kNo;
}

}  // namespace

void add_policy_explain(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "explain", "Say whether a flow is allowed, and which rule decides");
  const auto question = std::make_shared<Question>();
  command->add_option("--from", question->from, "the source: a name, labels, @host, an address")->required();
  command->add_option("--to", question->to, "the destination, likewise")->required();
  command->add_option("--port", question->port, "tcp/5432, udp/53, icmp, icmpv6")->required();
  command->footer(
      "An end is the name of a live workload, a label list like app=web,env=prod,\n"
      "@host, @world, @NAME of a [[network]], or an address.\n"
      "The running daemon answers; with --config-dir, the files in that directory.\n"
      "Exit code 0: the flow passes; 1: it is refused, or there is no answer.");
  command->callback([&globals, &action, question] { action = [&globals, question] { return explain(globals, *question); }; });
}

}  // namespace trireme::cli
