// SPDX-License-Identifier: Apache-2.0
// What the incremental compiler remembers.
//
// Classes: under baseline same-labels or none a class is a signature (the rules that cover an
// identity), but an identity whose own members the baseline helps while a rule restricts them has a
// class of its own, since a pair of classes cannot say "the same identity". Under any-common-label
// every label set is a class, since which labels two classes have in common decides what their pair
// may do.
//
// Groups: `open` shares one among all workloads of a signature that rules alone let talk freely;
// `identity` among workloads of one label set (same-labels); `common` among label sets that share a
// chosen label and that no restrictive rule tells apart (any-common-label).
//
// Keys of classes and groups hold what the baseline compares: under same-labels all labels as if
// they were own ones, under any-common-label the own ones.
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
    std::size_t users = 0;  // identities
  };
  using Groups = std::map<GroupKey, Group>;

  struct Class;
  /// Classes by the group that all their members share, or 0: pairs within such a group are never
  /// asked for.
  using ByGroup = std::map<std::uint32_t, std::set<Class*>>;

  struct ClassKey {
    Signature signature;
    LabelSet labels;  // empty where the signature is all
    auto operator<=>(const ClassKey&) const = default;
  };
  struct Class {
    std::uint32_t id = 0;
    bool unlabelled = false;  // of addresses
    const ClassKey* key = nullptr;
    std::uint32_t group = 0;
    const GroupKey* group_key = nullptr;  // of that group
    std::size_t users = 0;                // identities; of addresses: intervals and names
    std::map<Class*, Profiles::Handle> out;
    std::set<Class*> in;
  };
  using Classes = std::map<ClassKey, Class>;
  using AddressClasses = std::map<Signature, std::pair<ClassKey, Class>>;

  struct Identity {
    LabelSet labels;
    Classes::iterator klass;
    std::optional<Groups::iterator> group;  // none: each workload has its own
    std::size_t users = 0;                  // workloads
  };
  using Identities = std::map<std::string, Identity>;  // by encoded label set

  struct Workload {
    Identities::iterator identity;
    std::uint32_t own_group = 0;  // 0: the identity's
  };

  CompilerState(std::shared_ptr<const Policy> the_policy, std::uint32_t first);

  // compile.cpp
  void add(Number number, const LabelSet& labels);
  void remove(Number number);
  void name(const Address& address, const std::vector<std::size_t>& networks);
  void unname(const Address& address);

  // compile_identity.cpp: what an identity needs, when its first workload comes and when its last
  // one goes.
  Identities::iterator acquire_identity(const LabelSet& labels);
  void release_identity(Identities::iterator identity);
  [[nodiscard]] std::optional<GroupKey> group_key(const LabelSet& labels,
                                                  const Signature& signature) const;
  [[nodiscard]] ClassKey class_key(const LabelSet& labels, const Signature& signature) const;
  [[nodiscard]] const Label& common_label(const LabelSet& labels) const;
  [[nodiscard]] bool baseline_reaches_itself(const LabelSet& labels) const;
  [[nodiscard]] Signature restrictions(const Signature& signature) const;
  void count_labels(const LabelSet& labels, bool come);

  // compile_classes.cpp
  void make_tables();
  std::vector<AddressInterval> addresses(Entity::Kind kind, Address::Family family);
  Classes::iterator acquire_class(ClassKey key, std::optional<Groups::iterator> group);
  void release_class(Classes::iterator place);
  AddressClasses::iterator acquire_address_class(Signature signature);
  void release_address_class(AddressClasses::iterator place);
  void index(Class& klass, bool come);
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
      named;  // as a local peer, as a remote one
  Identities identities;
  std::unordered_map<Number, Workload> workloads;

  // Classes that each allowing rule covers as a source and as a destination, by rule.
  std::vector<ByGroup> sources;
  std::vector<ByGroup> destinations;
  // Under any-common-label: classes and how many identities have each label.
  std::map<Label, ByGroup> by_label;
  std::map<Label, std::size_t> label_users;
};

struct Compiler::State : CompilerState {
  using CompilerState::CompilerState;
};

}  // namespace trireme::policy
