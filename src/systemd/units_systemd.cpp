// What PID 1 is asked and told: which units exist, which sockets start them, the drop-ins.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "trireme/systemd/units.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

constexpr const char* kUnitPath = "/org/freedesktop/systemd1/unit";
constexpr const char* kProperties = "org.freedesktop.DBus.Properties";
constexpr const char* kUnitInterface = "org.freedesktop.systemd1.Unit";
constexpr const char* kSocketInterface = "org.freedesktop.systemd1.Socket";

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// A Get of one property, ready to send; null without a connection.
sd_bus_message* get_call(const Bus& bus, const std::string& unit, const char* interface,
                         const char* property) {
  char* path = nullptr;
  if (sd_bus_path_encode(kUnitPath, unit.c_str(), &path) < 0) {
    return nullptr;
  }
  sd_bus_message* message = bus.object_call(path, kProperties, "Get");
  std::free(path);
  if (message != nullptr && sd_bus_message_append(message, "ss", interface, property) < 0) {
    return sd_bus_message_unref(message);
  }
  return message;
}

/// Socket.Listen is a(ss): ("Stream", "[::]:80"), ("Stream", "/run/x.sock"), ("Datagram",
/// "@abstract"), ("FIFO", ...).
bool has_ip_listener(sd_bus_message* reply) {
  bool found = false;
  const char* type = nullptr;
  const char* address = nullptr;
  if (sd_bus_message_enter_container(reply, 'v', "a(ss)") < 0 ||
      sd_bus_message_enter_container(reply, 'a', "(ss)") < 0) {
    return false;
  }
  while (sd_bus_message_read(reply, "(ss)", &type, &address) > 0) {
    const std::string_view kind = type;
    found = found || ((kind == "Stream" || kind == "Datagram" || kind == "SequentialPacket") &&
                      address[0] != '/' && address[0] != '@' &&
                      std::string_view(address).find(':') != std::string_view::npos &&
                      !std::string_view(address).starts_with("vsock"));
  }
  return found;
}

bool is_true(sd_bus_message* reply) {
  int value = 0;
  return sd_bus_message_enter_container(reply, 'v', "b") >= 0 &&
         sd_bus_message_read(reply, "b", &value) > 0 && value != 0;
}

std::vector<std::string> strings_of_variant(sd_bus_message* reply) {
  std::vector<std::string> strings;
  const char* text = nullptr;
  if (sd_bus_message_enter_container(reply, 'v', "as") >= 0 &&
      sd_bus_message_enter_container(reply, 'a', "s") >= 0) {
    while (sd_bus_message_read(reply, "s", &text) > 0) {
      strings.emplace_back(text);
    }
  }
  return strings;
}

}  // namespace

/// One look at what systemd knows: unit files first, then loaded units.
struct UnitSource::UnitFiles {
  std::set<std::string> names;
  std::set<std::string> sockets;
};

void UnitSource::connected() {
  look_at_units();
}

void UnitSource::reloading(bool begins) {
  if (!begins) {
    look_at_units();
  }
}

void UnitSource::unit_new(const std::string& name) {
  const bool ungated = name.ends_with(".service") && rule_for(name) != nullptr &&
                       !gated_.contains(name) && !gated_.contains(template_of(name));
  const bool listener = name.ends_with(".socket") && rule_for(name) != nullptr;
  if (ungated || listener) {
    look_at_units();
  }
}

/// One at a time: news that arrives meanwhile leads to one more look.
void UnitSource::look_at_units() {
  if (looking_) {
    look_again_ = true;
    return;
  }
  if (identity_ == nullptr || identity_->units.empty()) {
    listeners_.clear();
    write_drop_ins({}, {});
    return;
  }
  looking_ = true;
  auto files = std::make_shared<UnitFiles>();
  bus_->send(bus_->manager_call("ListUnitFiles"),
             [this, files, alive = std::weak_ptr(alive_)](Result<sd_bus_message*> reply) {
               if (!alive.expired()) {
                 with_unit_files(files, std::move(reply));
               }
             });
}

void UnitSource::with_unit_files(const std::shared_ptr<UnitFiles>& files,
                                 Result<sd_bus_message*> reply) {
  if (!reply || sd_bus_message_enter_container(*reply, 'a', "(ss)") < 0) {
    looked(reply ? fail("systemd's list of unit files is unreadable")
                 : tl::unexpected(reply.error()));
    return;
  }
  const char* path = nullptr;
  const char* state = nullptr;
  while (sd_bus_message_read(*reply, "(ss)", &path, &state) > 0) {
    files->names.insert(base_name(path));
  }
  bus_->send(bus_->manager_call("ListUnits"),
             [this, files, alive = std::weak_ptr(alive_)](Result<sd_bus_message*> units) {
               if (!alive.expired()) {
                 with_units(*files, std::move(units));
               }
             });
}

void UnitSource::with_units(UnitFiles& files, Result<sd_bus_message*> reply) {
  if (!reply || sd_bus_message_enter_container(*reply, 'a', "(ssssssouso)") < 0) {
    looked(reply ? fail("systemd's list of units is unreadable") : tl::unexpected(reply.error()));
    return;
  }
  const char* name = nullptr;
  while (sd_bus_message_enter_container(*reply, 'r', "ssssssouso") > 0) {
    if (sd_bus_message_read(*reply, "s", &name) > 0) {
      files.names.insert(name);
      if (std::string_view(name).ends_with(".socket")) {
        files.sockets.insert(name);
      }
    }
    sd_bus_message_skip(*reply, "sssssouso");
    sd_bus_message_exit_container(*reply);
  }
  std::ranges::for_each(files.sockets, [this](const std::string& socket) { ask_socket(socket); });
  ask_order(gates_among(files.names));
}

/// Which units start before the system is up.
struct UnitSource::Order {
  std::set<std::string> units;
  std::set<std::string> early;
  std::size_t asked = 0;
};

void UnitSource::ask_order(const std::set<std::string>& units) {
  const auto order = std::make_shared<Order>(Order{units, {}, units.size()});
  const auto finish = [this](const Order& known) {
    write_drop_ins(known.units, known.early);
    looked({});
  };
  if (units.empty()) {
    finish(*order);
  }
  for (const std::string& unit : units) {
    std::string name = unit;
    if (is_template(unit)) {
      name.insert(name.find('@') + 1, "trireme");  // any instance
    }
    bus_->send(
        get_call(*bus_, name, kUnitInterface, "DefaultDependencies"),
        [order, unit, finish, alive = std::weak_ptr(alive_)](const Result<sd_bus_message*>& reply) {
          if (alive.expired()) {
            return;
          }
          if (!reply || !is_true(*reply)) {
            order->early.insert(unit);
          }
          if (--order->asked == 0) {
            finish(*order);
          }
        });
  }
}

void UnitSource::looked(const Status& done) {
  looking_ = false;
  if (!done) {
    problem_ = "drop-ins: " + done.error().message;
    spdlog::warn("[[unit]]: {}", problem_);
  }
  if (std::exchange(look_again_, false)) {
    look_at_units();
  }
}

/// The services and templates that need a drop-in. An instance is covered by its template's where
/// every instance matches.
std::set<std::string> UnitSource::gates_among(const std::set<std::string>& names) const {
  std::set<std::string> gates;
  for (const policy::UnitRule& rule : identity_->units) {
    if (is_plain(rule.name) && rule.name.ends_with(".service") && rule_for(rule.name) != nullptr) {
      gates.insert(rule.name);
    }
    for (const std::string& name : names) {
      if (is_template(name) && name.ends_with(".service") &&
          matches_all_instances(rule.name, name)) {
        gates.insert(name);
      }
    }
  }
  for (const std::string& name : names) {
    if (name.ends_with(".service") && !is_template(name) && rule_for(name) != nullptr &&
        !gates.contains(template_of(name))) {
      gates.insert(name);
    }
  }
  return gates;
}

/// Which service a socket starts, if it listens on IP addresses; its cgroup then takes part.
void UnitSource::ask_socket(const std::string& socket) {
  bus_->send(get_call(*bus_, socket, kSocketInterface, "Listen"),
             [this, socket, alive = std::weak_ptr(alive_)](Result<sd_bus_message*> reply) {
               if (alive.expired() || !reply || !has_ip_listener(*reply)) {
                 return;
               }
               bus_->send(get_call(*bus_, socket, kUnitInterface, "Triggers"),
                          [this, socket, alive](Result<sd_bus_message*> triggers) {
                            if (alive.expired() || !triggers) {
                              return;
                            }
                            bool added = false;
                            for (const std::string& service : strings_of_variant(*triggers)) {
                              added = (rule_for(service) != nullptr &&
                                       listeners_[service].insert(socket).second) ||
                                      added;
                            }
                            if (added) {
                              reconcile_cgroups();
                            }
                          });
             });
}

void UnitSource::write_drop_ins(const std::set<std::string>& units,
                                const std::set<std::string>& early) {
  const auto changed = drop_ins_.apply(units, early);
  if (!changed) {
    problem_ = "drop-ins: " + changed.error().message;
    reload_due_ = true;  // some may have been written
    spdlog::error("[[unit]]: units start without waiting for enforcement: {}",
                  changed.error().text());
    return;
  }
  gated_ = units;
  problem_ = units.empty() || drop_ins_.last()
                 ? ""
                 : "drop-ins: /etc/systemd/system is read-only: after a reboot they are gone";
  // An earlier daemon may have written them and ended before systemd had read them.
  reload_due_ = reload_due_ || *changed || (!asked_ && !units.empty());
  asked_ = true;
  if (!reload_due_) {
    return;
  }
  reload_due_ = false;
  spdlog::info("[[unit]]: {} services wait at their start until they are enforced", units.size());
  bus_->send(bus_->manager_call("Reload"),
             [this, alive = std::weak_ptr(alive_)](const Result<sd_bus_message*>& reply) {
               if (!alive.expired() && !reply) {
                 reload_due_ = true;  // at the next look
                 problem_ = "drop-ins: daemon-reload: " + reply.error().message;
                 spdlog::error("[[unit]]: {}", problem_);
               }
             });
}

}  // namespace trireme::systemd
