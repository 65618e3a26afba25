// SPDX-License-Identifier: Apache-2.0
// The state of the incremental compiler.
//
// Classes. Under the baselines same-labels and none, a class is a signature (the rules that cover
// an identity). Exception: an identity has a class of its own if the baseline allows flows within
// it that a rule restricts, because a pair of classes cannot express "the same identity". Under
// any-common-label every label set is a class, because the labels that two classes have in common
// decide their pair.
//
// Groups. An `open` group contains all workloads of a signature if rules alone allow all flows
// among them. An `identity` group contains the workloads of one label set (same-labels). A `common`
// group contains label sets with a chosen label in common that no restricting rule distinguishes
// (any-common-label).
//
// The keys of classes and groups contain the labels that the baseline compares: all labels under
// same-labels (stored as own labels), the own labels under any-common-label.
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "compile_profiles.hpp"
#include "compile_rules.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::policy {

struct CompilerState {
  struct GroupKey {
    enum class Kind : std::uint8_t { open, identity, common };
    Kind kind = Kind::open;
    Signature signature;
    std::string text;  // identity: the encoded label set; common: the label
    auto operator<=>(const GroupKey&) const = default;
  };
  struct Group {
    std::uint32_t id = 0;
    std::size_t users = 0;  // references by identities
  };
  using Groups = std::map<GroupKey, Group>;

  struct Class;
  /// Classes by the group that all their members share, or by 0 if there is none. The kernel never
  /// looks up pairs within such a group.
  using ByGroup = std::map<std::uint32_t, std::set<Class*>>;

  struct ClassKey {
    Signature signature;
    LabelSet labels;  // empty if the signature alone defines the class
    auto operator<=>(const ClassKey&) const = default;
  };
  struct Class {
    std::uint32_t id = 0;
    bool unlabeled = false;  // a class of addresses
    const ClassKey* key = nullptr;
    std::uint32_t group = 0;
    const GroupKey* group_key = nullptr;  // of that group
    std::size_t users = 0;                // references by identities, or by intervals and names
    std::map<Class*, Profiles::Handle> out;
    std::set<Class*> in;
  };
  using Classes = std::map<ClassKey, Class>;
  using AddressClasses = std::map<Signature, std::pair<ClassKey, Class>>;

  struct Identity {
    LabelSet labels;
    Classes::iterator klass;
    std::optional<Groups::iterator> group;  // none: each workload has a group of its own
    std::size_t users = 0;                  // references by workloads
  };
  using Identities = std::map<std::string, Identity>;  // by encoded label set

  struct Workload {
    Identities::iterator identity;
    std::uint32_t own_group = 0;  // 0: the group of the identity
  };

  CompilerState(std::shared_ptr<const Policy> the_policy, std::uint32_t first);

  // compile.cpp
  void add(Number number, const LabelSet& labels);
  void remove(Number number);
  void name(const Address& address, const std::vector<std::size_t>& networks);
  void unname(const Address& address);

  // compile_identity.cpp: creates what an identity needs when its first workload is added, and
  // removes it with its last one.
  Identities::iterator acquire_identity(const LabelSet& labels);
  void release_identity(Identities::iterator identity);
  [[nodiscard]] std::optional<GroupKey> group_key(const LabelSet& labels,
                                                  const Signature& signature) const;
  [[nodiscard]] ClassKey class_key(const LabelSet& labels, const Signature& signature) const;
  [[nodiscard]] const Label& common_label(const LabelSet& labels) const;
  [[nodiscard]] bool baseline_reaches_itself(const LabelSet& labels) const;
  [[nodiscard]] Signature restrictions(const Signature& signature) const;
  void count_labels(const LabelSet& labels, bool added);

  // compile_classes.cpp
  void make_tables();
  std::vector<AddressInterval> addresses(Entity::Kind kind, Address::Family family);
  Classes::iterator acquire_class(ClassKey key, std::optional<Groups::iterator> group);
  void release_class(Classes::iterator place);
  AddressClasses::iterator acquire_address_class(Signature signature);
  void release_address_class(AddressClasses::iterator place);
  void index(Class& klass, bool added);
  void connect(Class& klass);
  void disconnect(Class& klass);
  void link(Class& from, Class& to);
  [[nodiscard]] bool baseline_allows(const Class& from, const Class& to) const;

  std::shared_ptr<const Policy> policy;
  std::uint32_t first_id;
  RuleIndex rules;
  Ledger ledger;
  Profiles profiles;
  Tables tables;

  IdPool group_ids;
  IdPool class_ids;
  Groups groups;
  Classes classes;
  AddressClasses address_classes;
  std::map<Address, std::array<AddressClasses::iterator, 2>>
      named;  // the classes as @host and as @world
  Identities identities;
  std::unordered_map<Number, Workload> workloads;

  // By rule: the classes that an allow rule covers as a source, as a destination.
  std::vector<ByGroup> sources;
  std::vector<ByGroup> destinations;
  // Under any-common-label, by label: the classes that have it, and the number of identities.
  std::map<Label, ByGroup> by_label;
  std::map<Label, std::size_t> label_users;
};

struct Compiler::State : CompilerState {
  using CompilerState::CompilerState;
};

}  // namespace trireme::policy
