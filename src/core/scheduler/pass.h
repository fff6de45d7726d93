#pragma once
// One pass over the waiting placement groups and demands: reserves what groups wait for, grants what can be granted, in order of rank, starts workers for
// what lacks only a worker, and asks leases back for those who cannot be served.
//
// A demand that lacks only a worker has its resources kept for it until the end of the pass, so that
// nobody behind it takes them; the next pass finds the worker still starting and keeps them again.
//
// Threads: none. Used within one call of NodeScheduler::schedule().
// Limits:  kSearchesMax searches for leases to reclaim in a pass.

#include <map>
#include <optional>
#include <queue>
#include <vector>

#include "core/scheduler/reclaims.h"
#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {

class NodeScheduler::Pass {
 public:
  static constexpr int kSearchesMax = 16;

  Pass(NodeScheduler& scheduler, Instant now, Effects& effects);
  void run();
  // When the next pass could do more than this one, without any event.
  std::optional<Instant> next_deadline() const { return deadline_; }

 private:
  struct Plan {
    DemandId demand;
    Holding holding;
  };

  // placement.cc
  void place_groups();
  void make_room_for(PlacementGroup& group);
  void tell_gone_groups();

  void serve(DemandId id);
  void grant(DemandId id, const workers::WorkerPool::Taken& worker);
  void plan(DemandId id);
  bool has_worker_coming(EnvironmentKey environment);
  void capped(DemandId id);
  void short_of_resources(DemandId id);
  void reclaim_for(const Reclaims::Want& want);
  void reclaim(LeaseId id);
  void settle_overdrafts();
  void undo_plans();
  void wake_at(Instant at);

  NodeScheduler& s_;
  const Instant now_;
  Effects& effects_;
  const Reclaims reclaims_;
  std::priority_queue<Rank, std::vector<Rank>, std::greater<>> queue_;
  std::vector<Plan> plans_;
  std::map<EnvironmentKey, uint32_t> workers_planned_;
  // For the first that is impatient and cannot be served: of the node, and in each placement group.
  std::map<PlacementGroupId, Holding> withheld_;
  int searches_ = 0;
  std::optional<Instant> deadline_;
};

}  // namespace mobula::scheduler
