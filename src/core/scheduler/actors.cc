// NodeScheduler: actors, which are owners of one lease each.

#include <algorithm>

#include "base/check.h"
#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {

Result<void> NodeScheduler::add_actor(ProcessId actor, JobId job, const ActorRequest& request) {
  if (!jobs_.contains(job)) {
    return fail(ErrorCode::kNotFound, "no job " + std::to_string(number(job)));
  }
  MOBULA_CHECK(processes_.insert(actor).second);
  demands_.add_owner(actor, job, OwnerKind::kActor);
  // The CPUs that it does not keep say where it can be. Nobody waits for them: who would hold them may
  // be waiting for this actor.
  ResourceSet held = request.resources;
  if (could_ever_fit(request.bundle, held)) {
    held.set(kCpu, std::clamp<ResourceAmount>(request.cpus_for_life, 0, held.get(kCpu)));
  }
  Result<void> defined = define_shape(actor, kActorShape, held, request.depth,
                                      {0, request.environment, request.bundle});
  if (!defined) {
    actor_over(actor);
    return defined;
  }
  demands_.at({actor, kActorShape}).cpus_for_life =
      std::clamp<ResourceAmount>(request.cpus_for_life, 0, held.get(kCpu));
  return set_target(actor, kActorShape, 1);
}

void NodeScheduler::actor_made(ProcessId actor) {
  const DemandId id{actor, kActorShape};
  const Demand* demand = demands_.find(id);
  if (demand == nullptr || demand->leases.empty()) return;
  Lease& lease = leases_.at(*demand->leases.begin());
  if (lease.is_for_life) return;
  set_blocked(lease.worker, false);
  const ResourceAmount kept = demand->cpus_for_life;
  ledger_.lend_cpus(lease.holding.bundle, lease.holding.amounts.get(kCpu) - kept);
  lease.holding.amounts.set(kCpu, kept);
  demands_.change_share(id, kept - lease.share);
  lease.share = kept;
  lease.cpus = 0;
  lease.is_for_life = true;
  caps_.lease_ends(lease.cap_class);
  ++changes_;
}

void NodeScheduler::actor_over(ProcessId actor) {
  close_owner(actor);
  processes_.erase(actor);
}

}  // namespace mobula::scheduler
