// SPDX-License-Identifier: Apache-2.0
#include "shape.hpp"

#include <algorithm>

namespace trireme::config {
namespace {

using Type = Key::Type;

/// Log lines, metrics and answers repeat names.
constexpr std::size_t kLongestName = 255;

const Section kDefaultsSection = {
    .keys = {{.name = "mode",
              .type = Type::word,
              .description = "With audit, flows that would be denied are logged and pass.",
              .example = "\"enforce\"",
              .words = {"enforce", "audit"}},
             {.name = "baseline",
              .type = Type::word,
              .description = "What applies between two workloads if no rule decides.",
              .example = "\"same-labels\"",
              .words = {"same-labels", "any-common-label", "none"}},
             {.name = "refuse",
              .type = Type::word,
              .description = "How a denied flow is answered: reject sends a TCP reset or ICMP.",
              .example = "\"reject\"",
              .words = {"reject", "drop"}},
             {.name = "tell_peers",
              .type = Type::boolean,
              .description = "Send the reason of a denial to remote hosts with a verified "
                             "credential.",
              .example = "true"}}};

const Section kNetworkSection = {
    .keys = {{.name = "name",
              .type = Type::text,
              .description = "Rules refer to the network as @NAME.",
              .example = "\"corp-dns\"",
              .required = true,
              .non_empty = true,
              .longest = kLongestName},
             {.name = "cidrs",
              .type = Type::list,
              .description = "Addresses and prefixes.",
              .example = "[\"10.0.0.53/32\"]",
              .non_empty = true},
             {.name = "names",
              .type = Type::list,
              .description = "DNS names; *.example.org is every name below it.",
              .example = "[\"deb.example.org\"]",
              .non_empty = true}},
    .one_of = {"cidrs", "names"}};

const Section kRuleSection = {
    .keys = {{.name = "name",
              .type = Type::text,
              .description = "For logs and explanations; unique.",
              .example = "\"web to db\"",
              .non_empty = true,
              .longest = kLongestName},
             {.name = "from",
              .type = Type::text_or_list,
              .description = "Source: a selector (app=web), an entity (@host, @world, @NETWORK), "
                             "or a list of them (OR).",
              .example = "\"app=web\"",
              .required = true,
              .non_empty = true},
             {.name = "to",
              .type = Type::text_or_list,
              .description = "Destination: a selector, an entity, or a list of them (OR).",
              .example = "[\"app=db\", \"app=cache\"]",
              .required = true,
              .non_empty = true},
             {.name = "ports",
              .type = Type::text_or_list,
              .description = "Such as tcp/5432, udp/8000-8010, icmp, icmpv6. Absent: all.",
              .example = "[\"tcp/5432\"]",
              .non_empty = true},
             {.name = "log",
              .type = Type::boolean,
              .description = "Log each new flow that the rule decides.",
              .example = "true"},
             {.name = "mode",
              .type = Type::word,
              .description = "With audit, the rule is tried but not enforced.",
              .example = "\"audit\"",
              .words = {"enforce", "audit"}},
             {.name = "until",
              .type = Type::time,
              .description = "The rule is in force before this time.",
              .example = "2026-12-01T00:00:00Z"}}};

const Section kTestSection = {
    .keys = {{.name = "from",
              .type = Type::labels_or_text,
              .description = "Source: labels, an entity or an address.",
              .example = "{ app = \"web\" }",
              .required = true},
             {.name = "to",
              .type = Type::labels_or_text,
              .description = "Destination: labels, an entity or an address.",
              .example = "\"@world\"",
              .required = true},
             {.name = "port",
              .type = Type::text,
              .description = "Such as tcp/5432. Absent: every protocol and port.",
              .example = "\"tcp/5432\"",
              .non_empty = true},
             {.name = "expect",
              .type = Type::word,
              .description = "A policy that decides otherwise is not applied.",
              .example = "\"deny\"",
              .words = {"allow", "deny"},
              .required = true}}};

const Section kHostSection = {
    .keys = {{.name = "name",
              .type = Type::text,
              .description = "Default: the host name.",
              .example = "\"web-1\"",
              .non_empty = true,
              .longest = kLongestName},
             {.name = "labels",
              .type = Type::labels,
              .description = "Labels that are added to every workload of this host.",
              .example = "{ zone = \"eu-1\" }"},
             {.name = "peers",
              .type = Type::list,
              .description = "Networks whose hosts run trireme. Requires [trust].",
              .example = "[\"10.0.0.11/32\"]"},
             {.name = "nat",
              .type = Type::list,
              .description = "Peers whose addresses a third machine translates.",
              .example = "[\"203.0.113.0/24\"]"},
             {.name = "acknowledge",
              .type = Type::list,
              .description = "Capabilities of workloads that need no warning.",
              .example = "[\"CAP_NET_RAW\"]"}}};

const Section kTrustSection = {
    .keys = {{.name = "certificate",
              .type = Type::text,
              .description = "The certificate of this host.",
              .example = "\"host.pem\"",
              .non_empty = true},
             {.name = "key",
              .type = Type::text,
              .description = "Its key, with mode 0600.",
              .example = "\"host.key\"",
              .non_empty = true},
             {.name = "ca",
              .type = Type::text_or_list,
              .description = "CAs whose certificates are accepted; several during a rotation.",
              .example = "[\"ca.pem\"]"},
             {.name = "revoked",
              .type = Type::text_or_list,
              .description = "Revoked certificates, or revocation lists.",
              .example = "[\"old-host.pem\"]"},
             {.name = "psk_file",
              .type = Type::text,
              .description = "Secrets that all hosts share, instead of certificates.",
              .example = "\"psk\"",
              .non_empty = true}},
    .exclusive = {{"psk_file", "certificate"},
                  {"psk_file", "key"},
                  {"psk_file", "ca"},
                  {"psk_file", "revoked"}}};

const Section kDockerSection = {
    .keys = {{.name = "socket",
              .type = Type::text_or_list,
              .description = "The sockets of the container engines.",
              .example = "[\"/run/docker.sock\", \"/run/podman/podman.sock\"]",
              .non_empty = true},
             {.name = "containers",
              .type = Type::word,
              .description = "Which containers are workloads.",
              .example = "\"all\"",
              .words = {"all", "labeled", "labelled", "host-network", "none"}},
             {.name = "image_labels",
              .type = Type::list,
              .description = "Labels that give identity although they come from the image.",
              .example = "[\"app\"]"},
             {.name = "ignore_labels",
              .type = Type::list,
              .description = "Labels that give no identity. A * at the end matches a prefix.",
              .example = "[\"com.docker.*\"]"},
             {.name = "labels",
              .type = Type::list,
              .description = "Only these labels give identity. A * at the end matches a prefix.",
              .example = "[\"app\", \"team-*\"]",
              .non_empty = true},
             {.name = "label_from",
              .type = Type::texts,
              .description = "Labels that are derived from others.",
              .example = "{ app = \"com.docker.compose.project\" }"}},
    .exclusive = {{"labels", "ignore_labels"}}};

const Section kUnitSection = {
    .keys = {{.name = "name",
              .type = Type::text,
              .description = "A pattern for the full name of a systemd service.",
              .example = "\"postgresql@*.service\"",
              .required = true,
              .non_empty = true,
              .longest = kLongestName},
             {.name = "labels",
              .type = Type::labels,
              .description = "The labels of the unit.",
              .example = "{ app = \"db\" }",
              .required = true,
              .non_empty = true}}};

const Section kLaunchSection = {
    .keys = {{.name = "user",
              .type = Type::text,
              .description = "Who can start workloads with trirun.",
              .example = "\"deploy\"",
              .non_empty = true,
              .longest = kLongestName},
             {.name = "group",
              .type = Type::text,
              .description = "Whose members can start workloads with trirun.",
              .example = "\"deploy\"",
              .non_empty = true,
              .longest = kLongestName},
             {.name = "labels",
              .type = Type::list,
              .description = "The labels that they can use. A * at the end matches a prefix.",
              .example = "[\"app=web*\", \"env=dev\"]",
              .required = true,
              .non_empty = true}},
    .one_of = {"user", "group"},
    .only_one = true};

const Section kMetricsSection = {
    .keys = {{.name = "listen",
              .type = Type::text,
              .description = "Address and port that serve metrics for Prometheus.",
              .example = "\"127.0.0.1:9464\"",
              .non_empty = true,
              .longest = kLongestName}}};

}  // namespace

const Key* Section::find(std::string_view name) const {
  const auto found = std::ranges::find(keys, name, &Key::name);
  return found == keys.end() ? nullptr : &*found;
}

std::vector<std::string> Section::names() const {
  std::vector<std::string> list;
  for (const Key& key : keys) {
    list.emplace_back(key.name);
  }
  return list;
}

const Shape& policy_shape() {
  static const Shape shape = {
      .file = "policy.toml",
      .description = "Rules over labels: trireme-policy.toml(5).",
      .top = {.keys = {{.name = "defaults",
                        .type = Type::section,
                        .description = "What applies without a rule.",
                        .section = &kDefaultsSection},
                       {.name = "network",
                        .type = Type::entries,
                        .description = "Peers without labels, by address or DNS name.",
                        .section = &kNetworkSection},
                       {.name = "allow",
                        .type = Type::entries,
                        .description = "Flows that are allowed.",
                        .section = &kRuleSection},
                       {.name = "deny",
                        .type = Type::entries,
                        .description = "Flows that are denied, whatever is allowed.",
                        .section = &kRuleSection},
                       {.name = "test",
                        .type = Type::entries,
                        .description = "What the policy must decide.",
                        .section = &kTestSection}}}};
  return shape;
}

const Shape& identity_shape() {
  static const Shape shape = {
      .file = "identity.toml",
      .description = "The identity of a host and of its workloads: trireme-identity.toml(5).",
      .top = {.keys = {{.name = "host",
                        .type = Type::section,
                        .description = "This host.",
                        .section = &kHostSection},
                       {.name = "trust",
                        .type = Type::section,
                        .description = "Credentials of this host and those that it accepts.",
                        .section = &kTrustSection},
                       {.name = "docker",
                        .type = Type::section,
                        .description = "Containers as workloads.",
                        .section = &kDockerSection},
                       {.name = "unit",
                        .type = Type::entries,
                        .description = "A systemd unit as a workload.",
                        .section = &kUnitSection},
                       {.name = "launch",
                        .type = Type::entries,
                        .description = "Who besides root can start workloads.",
                        .section = &kLaunchSection},
                       {.name = "metrics",
                        .type = Type::section,
                        .description = "Counters for Prometheus.",
                        .section = &kMetricsSection}}}};
  return shape;
}

}  // namespace trireme::config
