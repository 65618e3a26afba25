// SPDX-License-Identifier: Apache-2.0
// The connection to PID 1: over its private socket where that is there (root needs no dbus-daemon,
// and it is there early in the boot), else over the system bus. Reconnects by itself after a
// daemon-reexec or a restart of dbus.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
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
    virtual void connected() {}     // again, after disconnected()
    virtual void disconnected() {}  // calls under way end with an error by themselves
  };
  /// The reply's message, or an error. The message lives as long as the call of the handler.
  using Reply = std::function<void(Result<sd_bus_message*>)>;

  /// Errors: systemd is not PID 1, or neither socket answers. Blocks for the connection's handshake
  /// (milliseconds).
  [[nodiscard]] static Result<std::unique_ptr<Bus>> connect(sd_event* loop);
  ~Bus();
  Bus(const Bus&) = delete;
  Bus& operator=(const Bus&) = delete;

  void add_listener(Listener& listener);
  void remove_listener(Listener& listener);
  [[nodiscard]] bool is_connected() const { return bus_ != nullptr; }
  /// The connection, to make messages with; null while there is none.
  [[nodiscard]] sd_bus* bus() const { return bus_; }
  /// An empty call of a Manager method, to append arguments to and hand to send(); the caller owns
  /// it. Null while there is no connection.
  [[nodiscard]] sd_bus_message* manager_call(const char* method) const;
  [[nodiscard]] sd_bus_message* object_call(const char* path, const char* interface,
                                            const char* method) const;
  /// Takes the message over, sends it and hands the reply to `reply`, exactly once unless this
  /// object goes first. 25 s is systemd's own limit.
  void send(sd_bus_message* message, Reply reply);
  /// Where systemd's own root is below the cgroup root: "" but in containers without a cgroup
  /// namespace.
  [[nodiscard]] const std::string& cgroup_root() const { return cgroup_root_; }

 private:
  explicit Bus(sd_event* loop) : loop_(loop) {}
  struct Call;
  Status open();
  Status subscribe();
  void lost();
  static int on_signal(sd_bus_message* message, void* self, sd_bus_error* error);
  void retry();

  sd_event* loop_;
  sd_bus* bus_ = nullptr;
  event::Timer retry_;
  std::string cgroup_root_;
  std::vector<Listener*> listeners_;
};

}  // namespace trireme::systemd
