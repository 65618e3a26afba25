// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/bus.hpp"

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace trireme::systemd {
namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr const char* kLocalPath = "/org/freedesktop/DBus/Local";
constexpr const char* kLocal = "org.freedesktop.DBus.Local";
constexpr std::chrono::milliseconds kRetry(200);

/// Checks that the process behind the private socket is root's, so that the ownership of
/// /run/systemd need not be trusted.
bool peer_is_root(sd_bus* bus) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(sd_bus_get_fd(bus), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == 0;
}

sd_bus* open_private(const std::string& socket) {
  sd_bus* bus = nullptr;
  if (sd_bus_new(&bus) < 0) {
    return nullptr;
  }
  if (sd_bus_set_address(bus, ("unix:path=" + socket).c_str()) >= 0 && sd_bus_start(bus) >= 0 &&
      peer_is_root(bus)) {
    return bus;
  }
  return sd_bus_close_unref(bus);
}

std::string without_period(std::string text) {
  while (text.ends_with('.')) {
    text.pop_back();
  }
  return text;
}

}  // namespace

struct Bus::Call {
  Reply reply;

  static int answered(sd_bus_message* message, void* self, sd_bus_error*) {
    const Reply reply = std::exchange(static_cast<Call*>(self)->reply, nullptr);
    if (const sd_bus_error* error = sd_bus_message_get_error(message)) {
      reply(fail("systemd: " +
                 without_period(error->message != nullptr ? error->message : error->name)));
    } else {
      reply(message);
    }
    return 0;
  }
  static void destroy(void* self) { delete static_cast<Call*>(self); }
};

Result<std::unique_ptr<Bus>> Bus::connect(sd_event* loop, const std::string& socket) {
  if (socket == kPrivateSocket && sd_booted() <= 0) {
    return fail("systemd is not running");
  }
  std::unique_ptr<Bus> connection(new Bus(loop, socket));
  if (Status timer = connection->retry_.open(loop, [&made = *connection] { made.retry(); });
      !timer) {
    return tl::unexpected(timer.error());
  }
  if (auto opened = connection->open(); !opened) {
    return tl::unexpected(opened.error());
  }
  return connection;
}

Bus::~Bus() {
  if (bus_ != nullptr) {
    sd_bus_detach_event(bus_);
    sd_bus_close_unref(bus_);
  }
}

Status Bus::open() {
  const bool has_system_bus = socket_ == kPrivateSocket;
  bus_ = open_private(socket_);
  if (bus_ == nullptr && has_system_bus && sd_bus_open_system(&bus_) < 0) {
    bus_ = nullptr;
  }
  if (bus_ == nullptr) {
    return fail("cannot connect to systemd at " + socket_ +
                (has_system_bus ? " or over the system bus" : ""));
  }
  if (auto ready = subscribe(); !ready) {
    bus_ = sd_bus_close_unref(bus_);
    return ready;
  }
  return {};
}

Status Bus::subscribe() {
  sd_bus_error error{};  // SD_BUS_ERROR_NULL is a compound literal, which C++ does not have
  // On the private socket, messages have no sender, and signals are sent without Subscribe.
  const char* sender = sd_bus_is_bus_client(bus_) > 0 ? kService : nullptr;
  int rc = sd_bus_match_signal(bus_, nullptr, sender, kPath, kManager, nullptr, on_signal, this);
  if (rc >= 0) {
    rc = sd_bus_match_signal(bus_, nullptr, nullptr, kLocalPath, kLocal, "Disconnected", on_signal,
                             this);
  }
  if (rc >= 0 && sender != nullptr) {
    rc = sd_bus_call_method(bus_, kService, kPath, kManager, "Subscribe", &error, nullptr, "");
  }
  char* root = nullptr;
  if (rc >= 0) {
    rc = sd_bus_get_property_string(bus_, kService, kPath, kManager, "ControlGroup", &error, &root);
  }
  if (rc >= 0) {
    cgroup_root_ = root;
    rc = sd_bus_attach_event(bus_, loop_, event::kNormal);
  }
  std::free(root);
  const std::string reason = error.message != nullptr ? error.message : "";
  sd_bus_error_free(&error);
  if (rc < 0) {
    return reason.empty() ? Status(fail_errno("cannot query systemd", -rc))
                          : Status(fail("cannot query systemd: " + reason));
  }
  return {};
}

void Bus::add_listener(Listener& listener) {
  listeners_.push_back(&listener);
}

void Bus::remove_listener(Listener& listener) {
  std::erase(listeners_, &listener);
}

sd_bus_message* Bus::manager_call(const char* method) const {
  return object_call(kPath, kManager, method);
}

sd_bus_message* Bus::object_call(const char* path, const char* interface,
                                 const char* method) const {
  sd_bus_message* message = nullptr;
  if (bus_ == nullptr ||
      sd_bus_message_new_method_call(bus_, &message, kService, path, interface, method) < 0) {
    return nullptr;
  }
  return message;
}

void Bus::send(sd_bus_message* message, Reply reply) {
  if (!is_connected() || message == nullptr) {
    sd_bus_message_unref(message);
    reply(fail("not connected to systemd", "trireme is reconnecting; see 'systemctl status'"));
    return;
  }
  auto* call = new Call{std::move(reply)};  // owned by the slot, which the connection owns
  sd_bus_slot* slot = nullptr;
  const int rc = sd_bus_call_async(bus_, &slot, message, Call::answered, call, 0);
  sd_bus_message_unref(message);
  if (rc < 0) {
    call->reply(fail_errno("cannot send to systemd", -rc));
    Call::destroy(call);
    return;
  }
  sd_bus_slot_set_destroy_callback(slot, Call::destroy);
  sd_bus_slot_set_floating(slot, 1);
  sd_bus_slot_unref(slot);
}

int Bus::on_signal(sd_bus_message* message, void* self, sd_bus_error*) {
  auto& bus = *static_cast<Bus*>(self);
  if (sd_bus_message_is_signal(message, kLocal, "Disconnected") > 0) {
    bus.lost();
    return 0;
  }
  const char* path = nullptr;
  const char* name = nullptr;
  const char* result = nullptr;
  std::uint32_t id = 0;
  int flag = 0;
  if (sd_bus_message_is_signal(message, kManager, "JobRemoved") > 0) {
    if (sd_bus_message_read(message, "uoss", &id, &path, &name, &result) > 0) {
      bus.tell([&](Listener& listener) { listener.job_removed(path, result); });
    }
  } else if (sd_bus_message_is_signal(message, kManager, "UnitNew") > 0) {
    if (sd_bus_message_read(message, "so", &name, &path) > 0) {
      bus.tell([&](Listener& listener) { listener.unit_new(name); });
    }
  } else if (sd_bus_message_is_signal(message, kManager, "Reloading") > 0 &&
             sd_bus_message_read(message, "b", &flag) > 0) {
    bus.tell([&](Listener& listener) { listener.reloading(flag != 0); });
  }
  return 0;
}

void Bus::tell(const std::function<void(Listener&)>& news) const {
  for (Listener* listener : std::vector(listeners_)) {
    if (std::ranges::find(listeners_, listener) != listeners_.end()) {
      news(*listener);
    }
  }
}

void Bus::lost() {
  spdlog::warn("lost the connection to systemd; reconnecting");
  sd_bus_detach_event(bus_);
  bus_ = sd_bus_close_unref(bus_);
  tell([](Listener& listener) { listener.disconnected(); });
  retry_.arm(kRetry);
}

void Bus::retry() {
  if (auto opened = open(); !opened) {
    spdlog::debug("systemd: {}", opened.error().text());
    retry_.arm(kRetry);
    return;
  }
  spdlog::info("reconnected to systemd");
  tell([](Listener& listener) { listener.connected(); });
}

}  // namespace trireme::systemd
