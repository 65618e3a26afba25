// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/unit_facts.hpp"

#include <cstring>
#include <string_view>

#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

constexpr const char* kUnitPath = "/org/freedesktop/systemd1/unit";
constexpr const char* kProperties = "org.freedesktop.DBus.Properties";

/// The name of the instance that is queried to learn about its template.
constexpr const char* kAnyInstance = "trireme";

std::string read_text(sd_bus_message* reply) {
  const char* text = nullptr;
  return sd_bus_message_read(reply, "s", &text) > 0 ? text : "";
}

bool read_flag(sd_bus_message* reply) {
  int value = 0;
  return sd_bus_message_read(reply, "b", &value) > 0 && value != 0;
}

std::uint32_t read_count(sd_bus_message* reply) {
  std::uint32_t value = 0;
  return sd_bus_message_read(reply, "u", &value) > 0 ? value : 0;
}

std::vector<std::string> read_texts(sd_bus_message* reply) {
  std::vector<std::string> texts;
  const char* text = nullptr;
  if (sd_bus_message_enter_container(reply, 'a', "s") < 0) {
    return texts;
  }
  while (sd_bus_message_read(reply, "s", &text) > 0) {
    texts.emplace_back(text);
  }
  sd_bus_message_exit_container(reply);
  return texts;
}

/// Socket.Listen is a(ss): ("Stream", "[::]:80"), ("Stream", "/run/x.sock"), ("Datagram",
/// "@abstract"), ("FIFO", ...).
bool is_ip_listener(std::string_view kind, std::string_view address) {
  return (kind == "Stream" || kind == "Datagram" || kind == "SequentialPacket") &&
         !address.starts_with('/') && !address.starts_with('@') && !address.starts_with("vsock") &&
         address.find(':') != std::string_view::npos;
}

bool read_listeners(sd_bus_message* reply) {
  bool found = false;
  const char* kind = nullptr;
  const char* address = nullptr;
  if (sd_bus_message_enter_container(reply, 'a', "(ss)") < 0) {
    return false;
  }
  while (sd_bus_message_read(reply, "(ss)", &kind, &address) > 0) {
    found = found || is_ip_listener(kind, address);
  }
  sd_bus_message_exit_container(reply);
  return found;
}

std::set<std::string> as_set(const std::vector<std::string>& list) {
  return {list.begin(), list.end()};
}

struct Fact {
  const char* name;
  const char* type;
  void (*read)(sd_bus_message*, UnitFacts&);
};

constexpr Fact kFacts[] = {
    {"Id", "s", [](sd_bus_message* m, UnitFacts& f) { f.id = read_text(m); }},
    {"Names", "as", [](sd_bus_message* m, UnitFacts& f) { f.names = as_set(read_texts(m)); }},
    {"LoadState", "s", [](sd_bus_message* m, UnitFacts& f) { f.load_state = read_text(m); }},
    {"ActiveState", "s", [](sd_bus_message* m, UnitFacts& f) { f.active_state = read_text(m); }},
    {"DefaultDependencies", "b",
     [](sd_bus_message* m, UnitFacts& f) { f.default_dependencies = read_flag(m); }},
    {"Triggers", "as", [](sd_bus_message* m, UnitFacts& f) { f.triggers = read_texts(m); }},
    {"TriggeredBy", "as", [](sd_bus_message* m, UnitFacts& f) { f.triggered_by = read_texts(m); }},
    {"RootDirectory", "s",
     [](sd_bus_message* m, UnitFacts& f) {
       const std::string root = read_text(m);
       f.root = root.empty() ? f.root : root;
     }},
    {"RootImage", "s",
     [](sd_bus_message* m, UnitFacts& f) {
       const std::string root = read_text(m);
       f.root = root.empty() ? f.root : root;
     }},
    {"PrivateNetwork", "b",
     [](sd_bus_message* m, UnitFacts& f) { f.private_network = read_flag(m); }},
    {"NetworkNamespacePath", "s",
     [](sd_bus_message* m, UnitFacts& f) { f.network_namespace = read_text(m); }},
    {"NFileDescriptorStore", "u",
     [](sd_bus_message* m, UnitFacts& f) { f.stored_descriptors = read_count(m); }},
    {"FileDescriptorStoreMax", "u",
     [](sd_bus_message* m, UnitFacts& f) { f.most_descriptors = read_count(m); }},
    {"Accept", "b", [](sd_bus_message* m, UnitFacts& f) { f.accepts = read_flag(m); }},
    {"Listen", "a(ss)",
     [](sd_bus_message* m, UnitFacts& f) { f.has_ip_listener = read_listeners(m); }},
};

/// Reads the variant of one property if it is a known property of the expected type; otherwise
/// skips it.
void read_variant(sd_bus_message* reply, std::string_view name, UnitFacts& facts) {
  const char* type = nullptr;
  if (sd_bus_message_peek_type(reply, nullptr, &type) <= 0) {
    return;
  }
  for (const Fact& fact : kFacts) {
    if (name == fact.name && type != nullptr && std::strcmp(type, fact.type) == 0 &&
        sd_bus_message_enter_container(reply, 'v', fact.type) > 0) {
      fact.read(reply, facts);
      sd_bus_message_exit_container(reply);
      return;
    }
  }
  sd_bus_message_skip(reply, "v");
}

sd_bus_message* get_all_call(const Bus& bus, const std::string& unit) {
  char* path = nullptr;
  if (sd_bus_path_encode(kUnitPath, unit.c_str(), &path) < 0) {
    return nullptr;
  }
  sd_bus_message* message = bus.object_call(path, kProperties, "GetAll");
  std::free(path);
  if (message != nullptr && sd_bus_message_append(message, "s", "") < 0) {
    return sd_bus_message_unref(message);
  }
  return message;
}

}  // namespace

UnitFacts read_facts(sd_bus_message* reply) {
  UnitFacts facts;
  if (sd_bus_message_enter_container(reply, 'a', "{sv}") < 0) {
    return facts;
  }
  while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
    const char* name = nullptr;
    if (sd_bus_message_read(reply, "s", &name) > 0) {
      read_variant(reply, name, facts);
    }
    sd_bus_message_exit_container(reply);
  }
  return facts;
}

void ask_unit(Bus& bus, const std::string& unit, std::function<void(Result<UnitFacts>)> done) {
  std::string name = unit;
  if (is_template(unit)) {
    name.insert(name.find('@') + 1, kAnyInstance);
  }
  bus.send(get_all_call(bus, name), [done = std::move(done)](const Result<sd_bus_message*>& reply) {
    done(reply ? Result<UnitFacts>(read_facts(*reply)) : tl::unexpected(reply.error()));
  });
}

void learn_aliases(Aliases& aliases, const UnitFacts& facts) {
  if (facts.id.empty() || facts.load_state == "not-found") {
    return;
  }
  const auto note = [&aliases](const std::string& id, const std::set<std::string>& names) {
    if (names.size() > (names.contains(id) ? 1U : 0U)) {
      aliases[id] = names;
    } else {
      aliases.erase(id);
    }
  };
  note(facts.id, facts.names);
  const std::string of = template_of(facts.id);
  if (of.empty() || instance_of(facts.id) != kAnyInstance) {
    return;
  }
  std::set<std::string> templates;
  for (const std::string& name : facts.names) {
    if (const std::string each = template_of(name);
        !each.empty() && instance_of(name) == kAnyInstance) {
      templates.insert(each);
    }
  }
  note(of, templates);
}

std::set<std::string> names_of(const Aliases& aliases, const std::string& id) {
  std::set<std::string> names = {id};
  if (const auto known = aliases.find(id); known != aliases.end()) {
    names.insert(known->second.begin(), known->second.end());
  }
  const std::string instance = instance_of(id);
  const auto templates = aliases.find(template_of(id));
  if (instance.empty() || templates == aliases.end()) {
    return names;
  }
  for (std::string name : templates->second) {
    names.insert(name.insert(name.find('@') + 1, instance));
  }
  return names;
}

}  // namespace trireme::systemd
