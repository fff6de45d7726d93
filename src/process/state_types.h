#pragma once
// What the runtime tells of tasks to those who look on: those that ran, run and wait.
//
// Threads: plain values.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mobula::process {

// Kinds of errors in traces, besides the numbers of wire::SystemErrorCode.
constexpr uint32_t kErrorRaised = 100;      // By the task itself.
constexpr uint32_t kErrorDependency = 101;  // An argument is an error; the task did not run.

// A task that has ended, or that a worker runs now.
struct TraceEventOut {
  std::string name;
  std::string resources;  // "CPU=10000\n..."
  uint32_t pid = 0;       // Of the process whose trace has it.
  uint32_t process = 0;
  uint32_t job = 0;
  uint32_t caller = 0;
  uint64_t call = 0;
  uint64_t task = 0;      // Index of its id; the creator is `caller`.
  uint64_t start_ns = 0;  // CLOCK_MONOTONIC
  uint64_t end_ns = 0;    // 0: it runs now.
  uint64_t children_from = 0;
  uint32_t children = 0;
  uint64_t group = 0;  // The placement group in which it ran; not of calls.
  uint32_t attempt = 0;
  bool failed = false;
  bool is_call = false;   // Of an actor.
  bool by_owner = false;  // It never reached its end in a worker; start_ns is 0.
  uint32_t error_type = 0;
  std::string error;
};

struct StateRequest {
  uint32_t patience_ms = 1000;
  uint32_t tasks_max = 10'000;  // Of each process, among the live ones.
  uint32_t ended_max = 10'000;  // Of all processes together: those that ended last.
  std::string name;             // If given: only tasks of this name, in upper or lower case.
  uint64_t task = 0;            // If not 0: only the task with this index, made by
  uint32_t creator = 0;         // this process.
  uint32_t phases = 0;          // If not 0: live ones in phases whose bit (1 << TaskPhase) is set.
  bool failed_only = false;     // Of the ended ones;
  bool finished_only = false;   // the same.
  uint32_t objects_max = 0;     // Of each process, and of the daemon: the largest.
};

// Ended tasks of one kind in all processes together; none is missing.
struct EndedTotal {
  std::string name;
  uint64_t finished = 0;
  uint64_t failed = 0;
};

// Are two names of tasks the same but for the case of ASCII letters?
bool same_name(std::string_view one, std::string_view other);

// What the node knew when it was asked. Not one moment: each part is of its own.
struct StateOut {
  std::string daemon;  // JSON
  struct Live {
    uint32_t process = 0;
    uint32_t pid = 0;
    std::string error;                // Why there is nothing of it; else:
    std::vector<std::byte> contents;  // A verified LiveTasks (wire/state.fbs).
  };
  std::vector<Live> live;
  std::vector<TraceEventOut> ended;  // The last ones first.
  std::vector<TraceEventOut> running;
  std::vector<EndedTotal> totals;
  uint64_t ended_dropped = 0;  // Ended tasks of which nothing is kept but their number.

  // Which tasks of a process made which others, by the indices of their ids; in ascending order.
  struct Children {
    uint64_t from = 0;
    uint64_t to = 0;  // Exclusive.
    uint32_t parent_creator = 0;
    uint64_t parent = 0;
  };
  std::map<uint32_t, std::vector<Children>> children;
  // The task that made the task (creator, index), as creator and index; {0, 0}: not known, or none.
  std::pair<uint32_t, uint64_t> parent_of(uint32_t creator, uint64_t index) const;
};

}  // namespace mobula::process
