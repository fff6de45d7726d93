#pragma once
// LiveObjects collects what a process tells of the objects that it refers to, when it is asked
// (StateWanted, LiveObject in wire/state.fbs): the largest ones, each with how it is referred to, and sums
// over all of them.
//
// Objects are looked at in slices, between which they come and go: counts are those of several moments,
// so what the program holds is never less than nothing.
//
// Threads: none; the link thread uses one, with the runtime's lock where it says so.
// Limits:  as many rows as were asked for; of tasks, those that were looked at.

#include <flatbuffers/flatbuffers.h>

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/tasks/dispatcher.h"
#include "process/task.h"
#include "wire/state_generated.h"

namespace mobula::process {

// Of a task in flight, with the lease of its channel, if that has one.
wire::fb::TaskPhase phase_of(const Task& task, const tasks::Lease* lease);

class LiveObjects {
 public:
  // What the runtime knows of an object besides the object itself.
  struct Known {
    std::optional<wire::StoreLocation> location;
    bool is_viewed = false;
    uint32_t call_site = 0;
    Instant made{};
    std::optional<wire::fb::TaskPhase> phase;  // Of the task that is to make it.
  };
  struct Sums {
    uint64_t count = 0;
    uint64_t bytes = 0;  // Of values in this process's memory.
  };

  explicit LiveObjects(uint32_t rows_max) : rows_max_(rows_max) {}
  bool wanted() const { return rows_max_ > 0; }

  // With the lock: a task that has not ended, and an object with a count.
  void add(const Task& task);
  void add(const Object& object, const Known& known);

  const Sums& sums() const { return sums_; }
  flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<wire::fb::LiveObject>>> build(
      flatbuffers::FlatBufferBuilder& builder);

 private:
  struct Row {
    ObjectId id;
    uint64_t size = 0;
    uint32_t count = 0;
    uint32_t attempt = 0;
    bool is_shared = false;
    bool is_task = false;
    wire::fb::ObjectPlace place{};
    Known known;
  };
  using Counts = std::unordered_map<ObjectId, uint32_t, ObjectIdHash>;

  void keep_largest();
  static uint32_t count_in(const Counts& counts, ObjectId id);

  const uint32_t rows_max_;
  Sums sums_;
  std::vector<Row> rows_;
  Counts pending_tasks_;
  Counts containers_;
};

}  // namespace mobula::process
