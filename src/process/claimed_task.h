#pragma once
// ClaimedTask: a task that this process executes, under which lease, and how it ended.
//
// Threads: plain values. A task belongs to the thread that executes it.

#include "process/runtime_types.h"

namespace mobula::process {

// The lease a worker's task runs under.
struct LeaseInfo {
  uint32_t epoch = 0;
  std::vector<uint32_t> gpus;
  ResourceAmount cpus = 0;
  uint32_t depth = 1;
  int32_t priority = 0;
  BundleRef bundle;
  std::string resources;  // "name=amount\n" for each, in fixed point.
};

// A function that a caller sent to this worker. `decoded` is the binding's, opaque.
struct ReceivedFunction {
  uint32_t group = 0;     // Of a method: one more than its concurrency group; 0: no method.
  std::string name;       // As people see it.
  std::string full_name;  // With its own name (base/function_name.h).
  StoredValue value;
  std::vector<Object*> refs;  // Of `value`.
  void* decoded = nullptr;
};

// A task that this worker has started and must finish with Runtime::finish_task.
struct ClaimedTask {
  ReceivedFunction* function = nullptr;
  std::vector<std::byte> values;  // value_count wire values, verified.
  std::vector<Object*> refs;      // Every ref named in them, in order; ours until finish_task.
  uint32_t value_count = 0;
  uint32_t keyword_count = 0;
  uint32_t num_returns = 0;
  bool streaming = false;
  uint32_t ahead_max = 0;
  uint64_t yielded = 0;  // Items sent.
  uint32_t attempt = 0;
  uint32_t time_limit_ms = 0;
  ObjectId first_return;
  const LeaseInfo* lease = nullptr;
  bool lease_changed = false;  // The first task under this lease: set environment from it.
  // Of a task that failed, for the trace: the binding's number of the kind of error, and its text.
  uint32_t error_type = 0;
  std::string error_text;
  // The runtime's own.
  CallId call{};
  uint64_t claim_tag = 0;
  uint64_t channel = 0;
  uint16_t claim_slot = 0;
  uint32_t function_number = 0;
  uint64_t number = 0;  // Counts the tasks executed here.
  Instant started{};
  uint32_t trace_name = 0;     // In the trace's table.
  uint64_t children_from = 0;  // Tasks that it submits have indices from here.
};

// How a task ended: num_returns values, or one error value if `failed`. Values above the inline limit must
// have been stored (kind kInStore; `stored` lists their writes, in order).
struct TaskOutcome {
  PackedValues results;
  bool failed = false;
  std::vector<StoreWrite> stored;
};

}  // namespace mobula::process
