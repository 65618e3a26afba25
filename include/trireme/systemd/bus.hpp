// SPDX-License-Identifier: Apache-2.0
// The connection to PID 1: over its private socket if that exists, otherwise over the system bus.
// The private socket needs no dbus-daemon and exists early in the boot. The connection is restored
// automatically after a daemon-reexec or a restart of dbus.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/event.hpp"

namespace trireme::systemd {

class Bus {
 public:
  /// Signals of org.freedesktop.systemd1.Manager, and the connection itself.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void job_removed(const std::string& /*job*/, const std::string& /*result*/) {}
    virtual void unit_new(const std::string& /*name*/) {}
    virtual void reloading(bool /*begins*/) {}
    virtual void connected() {}     // reconnected after disconnected()
    virtual void disconnected() {}  // pending calls end with an error on their own
  };
  /// The reply's message, or an error. The message is valid only during the call of the handler.
  using Reply = std::function<void(Result<sd_bus_message*>)>;

  static constexpr const char* kPrivateSocket = "/run/systemd/private";

  /// Blocks during the connection's handshake (milliseconds). The process that listens on `socket`
  /// must be root's. With any other socket than the default (of tests), the system bus is never
  /// used, and it does not matter whether systemd is PID 1. Errors: systemd is not PID 1, or
  /// neither socket answers.
  [[nodiscard]] static Result<std::unique_ptr<Bus>> connect(
      sd_event* loop, const std::string& socket = kPrivateSocket);
  ~Bus();
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  /// May be called from a listener too: one that was removed is not called any more, not even for
  /// the current signal; one that was added is called from the next signal on.
  void add_listener(Listener& listener);
  void remove_listener(Listener& listener);
  /// False as soon as pending calls end because the connection was lost.
  [[nodiscard]] bool is_connected() const { return bus_ != nullptr && sd_bus_is_open(bus_) > 0; }
  /// The connection, for creating messages; null while disconnected.
  [[nodiscard]] sd_bus* bus() const { return bus_; }
  /// An empty call of a Manager method: append the arguments, then pass it to send(). The caller
  /// owns it. Null while disconnected.
  [[nodiscard]] sd_bus_message* manager_call(const char* method) const;
  [[nodiscard]] sd_bus_message* object_call(const char* path, const char* interface,
                                            const char* method) const;
  /// Takes ownership of the message, sends it and calls `reply` exactly once, unless this object is
  /// destroyed first. The time limit is sd-bus's default of 25 s.
  void send(sd_bus_message* message, Reply reply);
  /// Path of systemd's root cgroup below the cgroup v2 root. Empty, except in containers without a
  /// cgroup namespace.
  [[nodiscard]] const std::string& cgroup_root() const { return cgroup_root_; }

 private:
  Bus(sd_event* loop, std::string socket) : loop_(loop), socket_(std::move(socket)) {}
  struct Call;
  Status open();
  Status subscribe();
  void lost();
  void tell(const std::function<void(Listener&)>& news) const;
  static int on_signal(sd_bus_message* message, void* self, sd_bus_error* error);
  void retry();

  sd_event* loop_;
  std::string socket_;
  sd_bus* bus_ = nullptr;
  event::Timer retry_;
  std::string cgroup_root_;
  std::vector<Listener*> listeners_;
};

}  // namespace trireme::systemd
