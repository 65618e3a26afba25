// SPDX-License-Identifier: Apache-2.0
// Converts trirun -p NAME=VALUE to typed D-Bus values of systemd's scope properties
// (org.freedesktop.systemd1(5)), like the parser of systemd-run.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "trireme/policy/address.hpp"
#include "trireme/systemd/scope.hpp"

namespace trireme::systemd {

/// D-Bus types s, b, i, u, t, ay and a(iayu), in this order.
using PropertyValue = std::variant<std::string, bool, std::int32_t, std::uint32_t, std::uint64_t,
                                   std::vector<std::uint8_t>, std::vector<policy::Prefix>>;

struct TypedProperty {
  std::string name;  // the name on D-Bus: CPUQuotaPerSecUSec for CPUQuota
  PropertyValue value;
};

/// "512", "10K", "1.5G" (powers of 1024) to bytes; "infinity" is UINT64_MAX.
[[nodiscard]] Result<std::uint64_t> parse_size(const std::string& text);
/// "90", "5min 20s", "1.5h" to microseconds; a bare number is seconds; "infinity" is UINT64_MAX.
[[nodiscard]] Result<std::uint64_t> parse_time(const std::string& text);
/// "25%", "12.34%" to hundredths of a percent.
[[nodiscard]] Result<std::uint32_t> parse_percent(const std::string& text);
/// "0-3,8" to a bit mask, least significant byte first.
[[nodiscard]] Result<std::vector<std::uint8_t>> parse_cpus(const std::string& text);
/// Error: the slice is neither trireme.slice nor one below it ("trireme-batch.slice").
[[nodiscard]] Status check_slice(const std::string& name);

/// Errors: an invalid value, or an unknown name (the hint lists the known ones).
[[nodiscard]] Result<TypedProperty> parse_property(const Property& property);

/// Appends "(sv)" to the open "a(sv)" of a message. Returns a negative errno on failure.
[[nodiscard]] int append_property(sd_bus_message* message, const TypedProperty& property);

}  // namespace trireme::systemd
