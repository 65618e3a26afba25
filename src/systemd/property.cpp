// SPDX-License-Identifier: Apache-2.0
#include "property.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <limits>
#include <sstream>
#include <utility>

#include "trireme/policy/labels.hpp"

namespace trireme::systemd {
namespace {

using policy::Address;
using policy::Prefix;
using Parsed = Result<TypedProperty>;
using Parser = Parsed (*)(const Property&);

/// The property with its name on D-Bus, or the error prefixed with the property's name.
template <typename T>
Parsed typed(const Property& property, std::string name, Result<T> value) {
  if (!value) {
    return fail(property.name + ": " + value.error().message, value.error().hint);
  }
  return TypedProperty{std::move(name), PropertyValue(std::move(*value))};
}

/// systemd writes a text unchanged into the scope's unit file, which daemon-reload reads. A line
/// that ends with a backslash would be joined with the next setting. (Property::parse() rejects
/// line feeds, which would add settings.)
Parsed text_value(const Property& property) {
  if (property.value.ends_with('\\')) {
    return fail(property.name + ": the value must not end with a backslash");
  }
  return TypedProperty{property.name, property.value};
}

Parsed bool_value(const Property& property) {
  for (const char* yes : {"yes", "true", "on", "1"}) {
    if (property.value == yes) {
      return TypedProperty{property.name, true};
    }
  }
  for (const char* no : {"no", "false", "off", "0"}) {
    if (property.value == no) {
      return TypedProperty{property.name, false};
    }
  }
  return fail(property.name + ": invalid boolean '" + property.value + "'", "use yes or no");
}

/// A percentage is passed in another property of 32 bits, whose maximum value is 100% (systemd's
/// UINT32_SCALE_FROM_PERMYRIAD).
Parsed scale_value(const Property& property) {
  return typed(
      property, property.name + "Scale",
      parse_percent(property.value).and_then([](std::uint32_t hundredths) -> Result<std::uint32_t> {
        if (hundredths > 10'000) {
          return fail("must not be more than 100%");
        }
        return static_cast<std::uint32_t>(
            (std::uint64_t{hundredths} * std::numeric_limits<std::uint32_t>::max() + 9'999) /
            10'000);
      }));
}

Parsed size_value(const Property& property) {
  return property.value.ends_with('%') ? scale_value(property)
                                       : typed(property, property.name, parse_size(property.value));
}

Parsed weight_value(const Property& property) {
  if (property.name == "CPUWeight" && property.value == "idle") {
    return TypedProperty{property.name, std::uint64_t{0}};
  }
  return typed(
      property, property.name,
      parse_size(property.value).and_then([](std::uint64_t weight) -> Result<std::uint64_t> {
        if (weight < 1 || weight > 10'000) {
          return fail("a weight must be 1 to 10000");
        }
        return weight;
      }));
}

/// RuntimeMaxSec is RuntimeMaxUSec on the bus.
Parsed time_value(const Property& property) {
  return typed(property,
               property.name.substr(0, property.name.size() - std::strlen("Sec")) + "USec",
               parse_time(property.value));
}

Parsed quota_value(const Property& property) {
  if (property.value.empty() || property.value == "infinity") {
    return TypedProperty{"CPUQuotaPerSecUSec", std::numeric_limits<std::uint64_t>::max()};
  }
  return typed(
      property, "CPUQuotaPerSecUSec",
      parse_percent(property.value).and_then([](std::uint32_t hundredths) -> Result<std::uint64_t> {
        if (hundredths == 0) {
          return fail("a quota must be greater than 0%");
        }
        return std::uint64_t{hundredths} * 100;  // microseconds of each second
      }));
}

Parsed cpus_value(const Property& property) {
  return typed(property, property.name, parse_cpus(property.value));
}

Parsed signal_value(const Property& property) {
  const std::string name =
      property.value.starts_with("SIG") ? property.value.substr(3) : property.value;
  for (int number = 1; number < NSIG; ++number) {
    const char* known = ::sigabbrev_np(number);
    if ((known != nullptr && name == known) || name == std::to_string(number)) {
      return TypedProperty{property.name, std::int32_t{number}};
    }
  }
  return fail(property.name + ": invalid signal '" + property.value + "'");
}

Parsed addresses_value(const Property& property) {
  static const std::pair<const char*, std::vector<const char*>> kWords[] = {
      {"any", {"0.0.0.0/0", "::/0"}},
      {"localhost", {"127.0.0.0/8", "::1/128"}},
      {"link-local", {"169.254.0.0/16", "fe80::/64"}},
      {"multicast", {"224.0.0.0/4", "ff00::/8"}}};
  std::vector<Prefix> prefixes;
  std::istringstream words(property.value);
  for (std::string word; words >> word;) {
    const auto* known =
        std::ranges::find_if(kWords, [&](const auto& pair) { return word == pair.first; });
    const auto texts =
        known == std::end(kWords) ? std::vector<const char*>{word.c_str()} : known->second;
    for (const char* text : texts) {
      auto prefix = Prefix::parse(text);
      if (!prefix) {
        return fail(property.name + ": " + prefix.error().message,
                    "use address prefixes, or any, localhost, link-local, multicast");
      }
      prefixes.push_back(*prefix);
    }
  }
  return TypedProperty{property.name, std::move(prefixes)};
}

Parsed slice_value(const Property& property) {
  if (auto fine = check_slice(property.value); !fine) {
    return tl::unexpected(fine.error());
  }
  return text_value(property);
}

constexpr std::pair<const char*, Parser> kKnown[] = {
    {"AllowedCPUs", cpus_value},        {"AllowedMemoryNodes", cpus_value},
    {"CollectMode", text_value},        {"CPUAccounting", bool_value},
    {"CPUQuota", quota_value},          {"CPUWeight", weight_value},
    {"Delegate", bool_value},           {"Description", text_value},
    {"IOAccounting", bool_value},       {"IOWeight", weight_value},
    {"IPAccounting", bool_value},       {"IPAddressAllow", addresses_value},
    {"IPAddressDeny", addresses_value}, {"KillMode", text_value},
    {"KillSignal", signal_value},       {"MemoryAccounting", bool_value},
    {"MemoryHigh", size_value},         {"MemoryLow", size_value},
    {"MemoryMax", size_value},          {"MemoryMin", size_value},
    {"MemorySwapMax", size_value},      {"OOMPolicy", text_value},
    {"RuntimeMaxSec", time_value},      {"SendSIGHUP", bool_value},
    {"SendSIGKILL", bool_value},        {"Slice", slice_value},
    {"TasksAccounting", bool_value},    {"TasksMax", size_value},
    {"TimeoutStopSec", time_value},
};

int append_prefixes(sd_bus_message* message, const std::vector<Prefix>& prefixes) {
  int rc = sd_bus_message_open_container(message, 'a', "(iayu)");
  for (const Prefix& prefix : prefixes) {
    const std::int32_t family = prefix.address.family == Address::Family::v4 ? AF_INET : AF_INET6;
    rc = rc < 0 ? rc : sd_bus_message_open_container(message, 'r', "iayu");
    rc = rc < 0 ? rc : sd_bus_message_append(message, "i", family);
    rc = rc < 0 ? rc
                : sd_bus_message_append_array(message, 'y', prefix.address.bytes.data(),
                                              prefix.address.size());
    rc = rc < 0 ? rc : sd_bus_message_append(message, "u", std::uint32_t{prefix.length});
    rc = rc < 0 ? rc : sd_bus_message_close_container(message);
  }
  return rc < 0 ? rc : sd_bus_message_close_container(message);
}

struct Append {
  sd_bus_message* message;
  int operator()(const std::string& value) const {
    return sd_bus_message_append(message, "s", value.c_str());
  }
  int operator()(bool value) const {
    return sd_bus_message_append(message, "b", static_cast<int>(value));
  }
  int operator()(std::int32_t value) const { return sd_bus_message_append(message, "i", value); }
  int operator()(std::uint32_t value) const { return sd_bus_message_append(message, "u", value); }
  int operator()(std::uint64_t value) const { return sd_bus_message_append(message, "t", value); }
  int operator()(const std::vector<std::uint8_t>& value) const {
    return sd_bus_message_append_array(message, 'y', value.data(), value.size());
  }
  int operator()(const std::vector<Prefix>& value) const { return append_prefixes(message, value); }
};

}  // namespace

Result<Property> Property::parse(const std::string& text) {
  if (!policy::is_printable(text)) {
    return fail("a property must be UTF-8 without control characters");
  }
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return fail("invalid property '" + text + "'", "use NAME=VALUE");
  }
  return Property{text.substr(0, equals), text.substr(equals + 1)};
}

Status check_slice(const std::string& name) {
  constexpr std::string_view kSuffix = ".slice";
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:.-";
  const std::string stem =
      name.ends_with(kSuffix) ? name.substr(0, name.size() - kSuffix.size()) : "";
  const bool below = stem.starts_with("trireme-") && !stem.ends_with('-') &&
                     stem.find("--") == std::string::npos && stem.size() <= 200 &&
                     stem.find_first_not_of(kLetters) == std::string::npos;
  if (stem != "trireme" && !below) {
    return fail("Slice: '" + name + "' is not below trireme.slice",
                "for example: Slice=trireme-batch.slice");
  }
  return {};
}

Result<TypedProperty> parse_property(const Property& property) {
  std::string names;
  for (const auto& [name, parser] : kKnown) {
    if (property.name == name) {
      return parser(property);
    }
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return fail("unknown property '" + property.name + "'", "available: " + names);
}

int append_property(sd_bus_message* message, const TypedProperty& property) {
  static constexpr const char* kTypes[] = {"s", "b", "i", "u", "t", "ay", "a(iayu)"};
  int rc = sd_bus_message_open_container(message, 'r', "sv");
  rc = rc < 0 ? rc : sd_bus_message_append(message, "s", property.name.c_str());
  rc = rc < 0 ? rc : sd_bus_message_open_container(message, 'v', kTypes[property.value.index()]);
  rc = rc < 0 ? rc : std::visit(Append{message}, property.value);
  rc = rc < 0 ? rc : sd_bus_message_close_container(message);
  return rc < 0 ? rc : sd_bus_message_close_container(message);
}

}  // namespace trireme::systemd
