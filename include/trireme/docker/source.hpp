// SPDX-License-Identifier: Apache-2.0
// Containers of Docker and Podman, by Docker's API, as workloads.
//
// Several engines can be configured. A cgroup's name says whether its container is Docker's or
// Podman's ("libpod-ID"), and of several engines of a kind the one counts that knows it. Containers
// of an engine that is not configured are left alone: listed as unenforced, never in quarantine.
//
// Two streams of news meet here: births of cgroups, which come before a container's first
// instruction, and Docker's events, which tell the labels from `create` on, before the start. A
// host-network container's cgroup is enrolled at birth where its labels are known by then, and
// quarantined at birth until they are. Whether a container shares our network namespace is
// NetworkMode's word before the start, and /proc/PID/ns/net's after it; where neither tells, it
// waits in quarantine.
//
// A container of another network namespace (a bridge's, none, another container's) is quarantined
// at birth and enrolled in that namespace as soon as its first processes are in it, which is before
// its first instruction: the runtime's own processes go first, and the search looks at them every
// few milliseconds. Which network a container is in is decided once for each start: by the
// namespace that the runtime declares (SandboxKey, NetworkMode "host"), and by where its first
// process is when it is first looked at. Where the two differ it is enforced in both. What its
// processes do later is a warning and changes nothing: they may be the container's own doing. Whose
// namespace it is has the whole of it; who joined is told apart by the cgroup. One without a cgroup
// of its own in cgroup v2 (the cgroupfs driver beside cgroup v1) is enrolled by its namespace
// alone, from its start on, where that is its own; else it is listed as unenforced, loudly.
//
// Identity is the container's labels without those that its image brings with the same value,
// unless image_labels lists them, and without ignore_labels. `docker run -l app=nginx` over an
// image with LABEL app=nginx cannot be told from the image's own: it gives no identity.
//
// What fails is retried and stays quarantined meanwhile; what is enforced stays enforced while
// Docker is away. One container's failure touches no other.
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
#include "trireme/workload/cgroup_events.hpp"
#include "trireme/workload/source.hpp"

namespace trireme::docker {

struct ContainerFacts;
struct NetworkFacts;
struct Event;

/// Where containers of a socket's engine can be reached at addresses of their own.
using DeclaredNetworks = std::map<std::string, std::vector<policy::Prefix>>;  // by socket

class Source final : public workload::Source {
 public:
  /// Connects at the first configure(). All references outlive this object.
  Source(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
         workload::CgroupEvents& events);
  ~Source() override;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  void configure(std::shared_ptr<const policy::Identity> identity) override;
  /// Takes docker-ID.scope and libpod-ID.scope wherever they are, and ID itself below parents that
  /// containers are known to be in.
  bool cgroup_born(const std::string& path) override;
  void cgroup_gone(const std::string& path) override;
  /// What an earlier daemon has last heard of; it stands for each engine until that tells it all.
  void set_declared(DeclaredNetworks networks) { declared_ = std::move(networks); }
  /// Prefixes of the bridge networks that containers under policy are in, and the addresses that
  /// their engines have given them, whenever they change. None of it comes from what is in a
  /// container's network namespace.
  std::function<void(const DeclaredNetworks&)> on_declared;
  /// "Docker 20.10.24, cgroup driver systemd, 12 containers", or why not connected, of each engine;
  /// and how many containers are left alone.
  [[nodiscard]] std::string status() const override;

 private:
  struct Container;
  struct Image;
  struct Engine;
  /// The first of Container::places; where there is none yet, what is expected of it.
  enum class Network : std::uint8_t { ours, other, unknown };

  [[nodiscard]] const policy::DockerSettings& settings() const { return identity_->docker; }
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

  // News from an engine.
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
  void networks_told(Engine& engine, Result<std::vector<NetworkFacts>> answer);
  void declare_soon();
  void declare();
  [[nodiscard]] std::vector<policy::Prefix> networks_of(const Engine& engine, bool& complete) const;
  void look_at_image(Engine& engine, const std::string& image_id);
  void retry_later(const std::string& id);
  void retry();

  // From what is known to what is done.
  static void complain(Container& container, const std::string& problem);
  void settle(Container& container);
  void settle_by_labels(Container& container, Network network);
  void enforce(Container& container, const policy::LabelSet& labels);
  void list_unprotected(Container& container, const workload::Description& description);
  void wait(Container& container, const std::string& reason);
  void hold(Container& container, const std::string& reason);
  void leave(Container& container);
  [[nodiscard]] const workload::Workload* registered(const Container& container) const;
  [[nodiscard]] static const Image* image_of(const Container& container);
  [[nodiscard]] std::string lost_labels(const Container& container) const;
  [[nodiscard]] static bool is_image_gone(const Container& container);
  [[nodiscard]] Result<std::optional<policy::LabelSet>> labels_of(const Container& container) const;
  [[nodiscard]] workload::Description describe(const Container& container,
                                               const policy::LabelSet& labels) const;

  // Whose network it shares.
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
  std::shared_ptr<const policy::Identity> identity_;
  std::map<std::string, std::unique_ptr<Container>, std::less<>> containers_;  // by id
  std::set<std::string> parents_;  // cgroups that containers are known to be made in
  std::set<std::string> failed_;   // containers to inspect again
  event::Timer retry_;
  std::set<std::string> sought_;  // containers that start, their network not known yet
  event::Timer seek_;
  DeclaredNetworks declared_;
  event::Deferred declare_;
  std::vector<std::unique_ptr<Engine>> engines_;  // one for each configured socket
};

}  // namespace trireme::docker
