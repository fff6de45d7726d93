#pragma once
// What NodeScheduler wants done. The shell carries the effects of a call out in their order.
//
// Threads: none; values.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "core/scheduler/demands.h"
#include "core/workers/environments.h"
#include "core/workers/worker_pool.h"

namespace mobula::scheduler {

// The owner may push tasks of `shape` to `worker`, whose channel gets lease epoch `epoch`.
struct GrantLease {
  LeaseId lease{};
  ProcessId owner{};
  ShapeId shape{};
  ProcessId worker{};
  uint32_t epoch = 0;          // Of the worker: 1, 2, ... with each lease.
  std::vector<uint32_t> gpus;  // Indices, ascending; one for a fraction of a GPU.
};
// Ask the owner to give this lease back when what has started there is done.
struct ReclaimLease {
  LeaseId lease{};
  ProcessId owner{};
};
// Nothing here can ever meet this request. Once for each shape; its tasks stay pending, or fail if no
// other node could either.
struct WarnInfeasible {
  ProcessId owner{};
  ShapeId shape{};
  std::string text;
  bool for_good = false;
};
// The placement group has its bundles now, or was removed.
struct GroupChanged {
  PlacementGroupId group{};
};
// Tasks of this shape cannot run: their placement group was removed. Its target is what it holds
// already, until its owner says otherwise.
struct GroupGone {
  DemandId demand;
};
// Tasks of these shapes cannot run: their runtime environment cannot be prepared, or workers do not
// start in it. Their targets are what they hold already, until their owners say otherwise. `worker`:
// the last one that did not start, or none. `demands` may be empty: then only the job is to know.
struct EnvironmentFailed {
  workers::EnvironmentKey environment;
  std::string text;
  ProcessId worker{};
  std::vector<DemandId> demands;
};
using workers::EnvironmentKey;
using workers::Environments;
using workers::PrepareEnvironment;
using workers::ReleaseEnvironment;
using workers::StartFailed;
using workers::StartWorker;
using workers::StopReason;
using workers::StopWorker;
using Effect = std::variant<GrantLease, ReclaimLease, WarnInfeasible, StartWorker, StopWorker,
                            StartFailed, PrepareEnvironment, ReleaseEnvironment, EnvironmentFailed,
                            GroupChanged, GroupGone>;
using Effects = std::vector<Effect>;

}  // namespace mobula::scheduler
