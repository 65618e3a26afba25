// SPDX-License-Identifier: Apache-2.0
// Any text as a property of `trirun -p`, which any user may send: no crash, and systemd receives
// only values that the type of the property allows.
#include "../../src/systemd/property.hpp"

#include "fuzz_support.hpp"
#include "trireme/policy/labels.hpp"

namespace {

using namespace trireme;
using systemd::TypedProperty;

struct Check {
  const std::string& name;
  void operator()(const std::string& text) const {
    fuzz::require(policy::is_printable(text) && !text.ends_with('\\'),
                  "a text is one line of a unit file");
    fuzz::require(name != "Slice" || text == "trireme.slice" || text.starts_with("trireme-"),
                  "a slice is trireme.slice or below it");
  }
  void operator()(bool /*value*/) const {}
  void operator()(std::int32_t signal) const {
    fuzz::require(signal > 0 && signal < 65, "a signal number is valid");
  }
  void operator()(std::uint32_t /*scale*/) const {
    fuzz::require(name.ends_with("Scale"), "a scale property has a name that ends with Scale");
  }
  void operator()(std::uint64_t number) const {
    fuzz::require(number == UINT64_MAX || number < (std::uint64_t{1} << 63U),
                  "a number is infinite or fits 63 bits");
    fuzz::require(!name.ends_with("Weight") || number <= 10'000, "a weight is at most 10000");
    fuzz::require(name != "CPUQuotaPerSecUSec" || number > 0, "a CPU quota is positive");
  }
  void operator()(const std::vector<std::uint8_t>& mask) const {
    fuzz::require(mask.size() <= 1024 && (mask.empty() || mask.back() != 0),
                  "a CPU mask ends with its last CPU");
  }
  void operator()(const std::vector<policy::Prefix>& prefixes) const {
    for (const policy::Prefix& prefix : prefixes) {
      fuzz::require(policy::Prefix::parse(prefix.text()) == prefix,
                    "the text of a prefix parses to itself");
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto property =
      systemd::Property::parse(std::string(reinterpret_cast<const char*>(data), size));
  if (!property) {
    fuzz::require(policy::is_printable(property.error().message), "an error is printable");
    return 0;
  }
  const auto typed = systemd::parse_property(*property);
  if (!typed) {
    fuzz::require(policy::is_printable(typed.error().message), "an error is printable");
    return 0;
  }
  fuzz::require(!typed->name.empty(), "a property has a name");
  std::visit(Check{typed->name}, typed->value);
  return 0;
}
