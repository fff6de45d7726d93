#pragma once
// Caps bounds how many workers run or are blocked for one (job, resources, depth, placement group), a
// cap class.
//
// Blocked workers give their CPUs back, so CPUs alone would not bound the number of processes when
// every task starts others and waits for them. The cap of a class is what the node's CPUs hold of
// its request; for a request without CPUs it is max(zero_cpu_min, zero_cpu_per_cpu x CPUs).
//
// A cap can deadlock a program whose blocked tasks wait for others of their class. So it rises: a
// class that has been held up by its cap alone for raise_delay may have one lease more than it has,
// then the delay doubles. A returned lease is a sign of life: cap and delay are as at first. Time
// in which the class is not held up counts back, kForget times slower, so that the moments between
// two leases do not add up, and a busy neighbour does not stop the clock either.
//
// Threads: none. Time: only from the `now` arguments, which never go backwards.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "base/bundle.h"
#include "base/ids.h"
#include "base/resources.h"
#include "base/time.h"

namespace mobula::scheduler {

enum class ClassId : uint64_t {};

class Caps {
 public:
  struct Options {
    Duration raise_delay = std::chrono::milliseconds(10);
    Duration raise_delay_max = std::chrono::seconds(1);
    uint32_t zero_cpu_min = 16;
    uint32_t zero_cpu_per_cpu = 4;
  };
  static constexpr int kForget = 8;

  Caps(Options options, ResourceAmount cpus_total);

  // A user of the class, who must leave() it again. A class without users and leases is forgotten.
  ClassId join(JobId job, const ResourceSet& resources, uint32_t depth,
               PlacementGroupId group = kNoGroup);
  void leave(ClassId id);

  bool allows(ClassId id) const;
  void lease_begins(ClassId id);
  void lease_ends(ClassId id);
  // A lease that was planned with lease_begins() and not granted. No sign of life.
  void lease_unplanned(ClassId id);

  // Accounts for the time since the last call, raises caps, and begins a new look at the demand.
  void advance(Instant now);
  // In this look: nothing but its cap holds the class up.
  void held_up(ClassId id, Instant now);
  std::optional<Instant> next_deadline() const;

  uint32_t in_use(ClassId id) const { return classes_.at(id).in_use; }
  uint32_t limit(ClassId id) const { return classes_.at(id).limit; }
  void check_invariants() const;

 private:
  using Amounts = std::map<std::string, ResourceAmount, std::less<>>;
  using Key = std::tuple<JobId, uint32_t, PlacementGroupId, Amounts>;
  struct Class {
    Key key;
    uint32_t base = 0;
    uint32_t limit = 0;
    uint32_t users = 0;
    uint32_t in_use = 0;
    bool held_up = false;
    Duration held_up_for{0};
    Duration delay{0};
    Instant accounted{0};
  };

  void forget_if_unused(ClassId id);

  const Options options_;
  const ResourceAmount cpus_total_;
  uint64_t next_class_ = 1;
  std::map<Key, ClassId> ids_;
  std::map<ClassId, Class> classes_;
  std::set<ClassId> watched_;  // Held up, or not long ago.
};

}  // namespace mobula::scheduler
