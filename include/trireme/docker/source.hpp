// SPDX-License-Identifier: Apache-2.0
// Containers of Docker and Podman, by Docker's API, as workloads.
//
// Several engines can be configured. The name of a cgroup shows whether its container belongs to
// Docker or to Podman ("libpod-ID"). Of several engines of the same kind, the one that knows the
// container supplies its labels. Containers of an engine that is not configured are left alone:
// they are listed as unenforced and never quarantined.
//
// Two event streams are combined here. Creation of a cgroup is seen before the container's first
// instruction. Docker's events supply the labels from `create` on, before the start. The cgroup of
// a host-network container is enrolled when it is created if its labels are known by then;
// otherwise it is quarantined until they are. Before the start, NetworkMode shows whether a
// container shares the daemon's network namespace; after the start, /proc/PID/ns/net does. If
// neither is available, the container waits in quarantine.
//
// A container in another network namespace (of a bridge, "none", or of another container) is
// quarantined when its cgroup is created, and enrolled in that namespace as soon as one of its
// processes is in it. That is before its first instruction, because the runtime's own processes
// enter the namespace first, and the search looks at them every few milliseconds. The network
// namespace of a container is decided once per start: by the namespace that the runtime declares
// (SandboxKey, NetworkMode "host"), and by the namespace that its first process is in when the
// daemon first looks at it. If the two differ, the container is enforced in both. If its processes
// move later, there is a warning and nothing else changes, because the container itself may have
// moved them. The container that a namespace was made for owns the whole namespace; containers that
// join it are distinguished by their cgroups. A container without its own cgroup v2 cgroup (the
// cgroupfs driver with cgroup v1) is enrolled by its namespace alone, from its start on, if the
// namespace is its own; otherwise it is listed as unenforced, and that is logged as an error.
//
// The identity is the set of the container's labels without those that its image has with the same
// value (unless image_labels lists them) and without those of ignore_labels. If the image has LABEL
// app=nginx, a label given by `docker run -l app=nginx` cannot be distinguished from the image's,
// so it is not part of the identity.
//
// Failed operations are retried, and the container stays quarantined meanwhile. What is enforced
// stays enforced while Docker is unavailable. A failure of one container affects no other.
//
// With containers = "none", containers are followed only while an operator's order (Registry::
// hold()) is for one, so that it is quarantined when it starts again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trireme/base/event.hpp"
#include "trireme/config/container_labels.hpp"
#include "trireme/workload/cgroup_events.hpp"
#include "trireme/workload/source.hpp"

namespace trireme::docker {

struct ContainerFacts;
struct NetworkFacts;
struct Event;

/// By socket: the prefixes and addresses at which containers of that engine can be reached.
using DeclaredNetworks = std::map<std::string, std::vector<policy::Prefix>>;

/// A running container, workload or not.
struct KnownContainer {
  std::string id;
  std::string name;
  std::string cgroup;  // empty if it has none of its own
  /// Its network namespace; null: the daemon's own, or not known yet (see `is_placed`).
  std::shared_ptr<const kernel::Netns> network;
  bool is_placed = false;
  std::optional<config::RawLabels> labels;        // the image's included; nullopt: not known
  std::optional<config::RawLabels> image_labels;  // nullopt: not known
};

class Source final : public workload::Source {
 public:
  /// Connects at the first configure(). All references must outlive this object.
  Source(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
         workload::CgroupEvents& events);
  ~Source() override;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  void configure(std::shared_ptr<const config::Host> host) override;
  /// Accepts docker-ID.scope and libpod-ID.scope anywhere in the tree, and a directory named ID
  /// or libpod-ID below parents that are known to contain containers.
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  /// Restores what the previous daemon stored. The value is used for each engine until that
  /// engine has reported all its networks.
  void set_declared(DeclaredNetworks networks) { declared_ = std::move(networks); }
  /// Called when the result changes: the prefixes of the bridge networks that containers under
  /// policy are attached to, and the addresses that their engines assigned. All of it comes from
  /// the engines, nothing from inside a container's network namespace, which the container may
  /// control.
  std::function<void(const DeclaredNetworks&)> on_declared;
  /// The addresses that its engine has assigned to a running container; empty if it has reported
  /// none.
  [[nodiscard]] std::vector<policy::Address> addresses_of(const std::string& container_id) const;
  /// For each engine "Docker 20.10.24, cgroup driver systemd, 12 containers", or why it is not
  /// connected; then the number of containers that are left alone.
  [[nodiscard]] std::string status() const override;
  /// The running containers, also those that are no workloads. Empty with containers = "none".
  [[nodiscard]] std::vector<KnownContainer> known() const;

 private:
  struct Container;
  struct Image;
  struct Engine;
  /// The network namespace of the first entry of Container::places; the expected one if there is
  /// no entry yet. `ours` is the daemon's own.
  enum class Network : std::uint8_t { ours, other, unknown };

  [[nodiscard]] const config::DockerSettings& settings() const { return host_->docker; }
  /// False with containers = "none".
  [[nodiscard]] bool makes_workloads() const;
  /// True if containers need not be followed: none can be a workload, and no operator's order is
  /// for a container.
  [[nodiscard]] bool is_off() const;
  [[nodiscard]] std::string container_of(const std::string& path) const;
  Container& entry(const std::string& id);
  [[nodiscard]] std::vector<Container*> all() const;
  void forget_all();

  // Engines.
  void connect();
  void drop_engine(const Engine& engine);
  void look_at_cgroups();
  [[nodiscard]] std::vector<Engine*> engines_of(const Container& container) const;
  void leave_to_its_engine(Container& container);

  // Reports from an engine.
  void on_event(Engine& engine, const Event& event);
  void on_listing(Engine& engine, std::vector<ContainerFacts> listed);
  static void keep_inspected(const Container& container, ContainerFacts& listed);
  void forget_unused_images();
  void inspect(const std::string& id);
  void ask(Engine& engine, const std::string& id);
  void inspected(Engine& engine, const std::string& id,
                 Result<std::optional<ContainerFacts>> answer);
  void learn(Container& container, ContainerFacts facts);
  void remember_parent(const std::string& parent);
  void locate(Container& container, std::uint32_t pid);
  void not_there(const Engine& engine, const std::string& id);
  void ask_for_networks(Engine& engine);
  void networks_listed(Engine& engine, Result<std::vector<NetworkFacts>> answer);
  void declare_soon();
  void declare();
  [[nodiscard]] std::vector<policy::Prefix> networks_of(const Engine& engine, bool& complete) const;
  void look_at_image(Engine& engine, const std::string& image_id);
  void retry_later(const std::string& id);
  void retry();

  // Decides what to do with a container from what is known about it.
  static void complain(Container& container, const std::string& problem);
  void decide(Container& container);
  void decide_by_order(Container& container);
  void decide_by_labels(Container& container, Network network);
  void enforce(Container& container, const policy::LabelSet& labels);
  void list_unprotected(Container& container, const workload::Description& description);
  void wait(Container& container, const std::string& reason);
  void quarantine(Container& container, const std::string& reason);
  bool leave(Container& container);
  [[nodiscard]] const workload::Workload* registered(const Container& container) const;
  [[nodiscard]] static const Image* image_of(const Container& container);
  [[nodiscard]] std::string lost_labels(const Container& container) const;
  [[nodiscard]] static bool is_image_gone(const Container& container);
  [[nodiscard]] Result<std::optional<policy::LabelSet>> labels_of(const Container& container) const;
  [[nodiscard]] workload::Description describe(const Container& container,
                                               const policy::LabelSet& labels) const;

  // Finds a container's network namespace.
  [[nodiscard]] bool has_process(const Container& container) const;
  Network network_of(Container& container);
  void take_recorded(Container& container) const;
  void take_declared(Container& container);
  void look_at_first_process(Container& container);
  void look_for_a_move(Container& container);
  bool find_network(Container& container) const;
  [[nodiscard]] const Container* owner_of_network(const Container& container) const;
  [[nodiscard]] Network network_by_mode(const std::string& mode, unsigned depth) const;
  [[nodiscard]] const Container* by_reference(const std::string& reference) const;
  [[nodiscard]] static bool has_own_network(const std::string& mode);
  void begin_start(Container& container, const std::string& cgroup);
  void forget_start(Container& container);
  static void forget_network(Container& container);
  void seek(const Container& container);
  void seek_all();

  sd_event* loop_;
  const kernel::CgroupTree& tree_;
  workload::Registry& registry_;
  workload::CgroupEvents& events_;
  std::shared_ptr<const config::Host> host_;
  std::map<std::string, std::unique_ptr<Container>, std::less<>> containers_;  // by id
  std::set<std::string> parents_;  // cgroups that are known to contain containers
  std::set<std::string> failed_;   // containers to inspect again
  event::Timer retry_;
  std::set<std::string> sought_;  // starting containers whose network namespace is not known yet
  event::Timer seek_;
  DeclaredNetworks declared_;
  event::Deferred declare_;
  std::vector<std::unique_ptr<Engine>> engines_;  // one for each configured socket
};

}  // namespace trireme::docker
