#pragma once
// Lineage decides which finished tasks an owner remembers, so that a result whose bytes get lost can
// be made again by running its task again, and which arguments those tasks would need.
//
//   keep() ──begin()──► running again ──end()──► kept
//     └──all results gone, or too many bytes are kept and it is the oldest──► forgotten
//
// A generator is kept from its first item on: open() says that it runs, add_result() names each item.
//
// It does not keep values: a kept task names its arguments, and the runtime keeps of an object that
// is only an argument of kept tasks what it can make it again from, not its bytes in the store
// (OWNERSHIP.md R21). Only tasks with results in the store are worth keeping: inline values live in
// their owner's memory and are lost with it only.
//
// Threads: none; guarded by the runtime's lock.
// Limits:  Options::bytes_max bytes of kept tasks, less what runs again just now.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace mobula::tasks {

class Lineage {
 public:
  struct Options {
    uint64_t bytes_max = 64ULL << 20;
  };
  struct Forgotten {
    CallId call{};
    std::vector<ObjectId> results;  // Still wanted, but for the cap: they cannot be made again.
  };
  struct Effects {
    std::vector<Forgotten> forgotten;  // The caller frees what it has of these tasks.
    std::vector<ObjectId> unused;      // Arguments that no kept task names any more.
    bool empty() const { return forgotten.empty() && unused.empty(); }
  };

  explicit Lineage(Options options) : options_(options) {}

  // The task is done. `results`: those in the store that somebody may want. `bytes`: what it costs.
  void keep(CallId call, uint64_t bytes, std::span<const ObjectId> results,
            std::span<const ObjectId> arguments, Effects& effects);
  struct Costs {
    uint64_t task_bytes = 0;
    uint64_t result_bytes = 0;  // Of each result that is added, until it goes.
  };
  // A generator runs, and has no results yet. end() says that it has ended.
  void open(CallId call, Costs costs, std::span<const ObjectId> arguments, Effects& effects);
  // One more result of a generator that runs, its item `number`. False: there is no room for it.
  bool add_result(CallId call, ObjectId result, uint64_t number, Effects& effects);
  // A kept task is about to run again, and has. It is not forgotten in between, except that the last
  // end() forgets one whose results have all gone.
  void begin(CallId call);
  void end(CallId call, Effects& effects);
  // Nobody can want this result any more. Does nothing for an unknown one.
  void on_result_gone(ObjectId result, Effects& effects);
  // The task failed when it ran again: its results are errors now.
  void forget(CallId call, Effects& effects);

  // The kept task that makes this object.
  std::optional<CallId> task_of(ObjectId result) const;
  // Which item of its generator a result is.
  uint64_t number_of(ObjectId result) const { return made_.at(result).number; }
  // Its results that can still be wanted.
  std::vector<ObjectId> results_of(CallId call) const;
  bool is_argument(ObjectId object) const { return uses_.contains(object); }
  bool is_running(CallId call) const { return tasks_.at(call).runs > 0; }

  size_t task_count() const { return tasks_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t evicted() const { return evicted_; }
  // Aborts if the books do not balance. O(everything); for tests.
  void check_invariants() const;

 private:
  struct Task {
    uint64_t bytes = 0;
    uint64_t age = 0;   // Its place in by_age_.
    uint32_t runs = 0;  // A generator can run again while it runs.
    uint64_t result_bytes = 0;
    size_t wanted = 0;  // So many of these: those that made_ knows.
    std::vector<ObjectId> results;
    std::vector<ObjectId> arguments;
  };

  struct Made {
    CallId call{};
    uint64_t number = 0;
  };

  Task& add(CallId call, uint64_t bytes, std::span<const ObjectId> arguments);
  void add_wanted(Task& task, ObjectId result, Made made);
  void drop(CallId call, bool evicted, Effects& effects);
  void evict(Effects& effects);

  const Options options_;
  std::unordered_map<CallId, Task> tasks_;
  std::unordered_map<ObjectId, Made, ObjectIdHash> made_;
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> uses_;
  std::map<uint64_t, CallId> by_age_;  // Those that are not running.
  uint64_t next_age_ = 1;
  uint64_t bytes_ = 0;
  uint64_t evicted_ = 0;
};

}  // namespace mobula::tasks
