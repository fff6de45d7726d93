#include "core/scheduler/pass.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::scheduler {

void NodeScheduler::schedule(Instant now, Effects& effects) {
  pool_.tick(now, pool_effects_);
  prestart(now);
  caps_.advance(now);

  Pass pass(*this, now, effects);
  pass.run();
  warn_infeasible(effects);
  look_at_environments(now, effects);
  take_over_pool_effects(effects);

  deadline_ = pass.next_deadline();
  for (const std::optional<Instant> at :
       {caps_.next_deadline(), pool_.next_deadline(now), environments_.next_deadline()}) {
    if (at && (!deadline_ || *at < *deadline_)) deadline_ = at;
  }
}

NodeScheduler::Pass::Pass(NodeScheduler& scheduler, Instant now, Effects& effects)
    : s_(scheduler),
      now_(now),
      effects_(effects),
      reclaims_(s_.demands_, s_.leases_, s_.ledger_, s_.options_.slice) {}

void NodeScheduler::Pass::run() {
  place_groups();
  tell_gone_groups();
  const Duration patience = s_.options_.patience;
  std::vector<Rank> ranks;
  ranks.reserve(s_.demands_.waiting().size());
  for (const DemandId id : s_.demands_.waiting()) {
    Demand& demand = s_.demands_.at(id);
    if (!demand.waiting_since) demand.waiting_since = now_;
    if (demand.bundle.in_group() && !s_.groups_.is_placed(demand.bundle.group)) {
      demand.waiting_since = now_;  // For nothing that others hold.
      continue;
    }
    ranks.push_back(s_.demands_.rank(id, now_, patience));
  }
  queue_ = decltype(queue_)(std::greater<>(), std::move(ranks));
  while (!queue_.empty()) {
    const Rank rank = queue_.top();
    queue_.pop();
    // Shares only grow within a pass, so a rank that is out of date belongs further back.
    const Rank current = s_.demands_.rank(rank.id, now_, patience);
    if (current != rank) {
      queue_.push(current);
    } else {
      serve(rank.id);
    }
  }
  undo_plans();
  settle_overdrafts();
}

void NodeScheduler::Pass::serve(DemandId id) {
  Demand& demand = s_.demands_.at(id);
  const JobId job = s_.demands_.owner(id.owner).job;
  const EnvironmentKey environment{job, demand.environment};
  s_.environments_.want(environment);
  if (!s_.environments_.is_ready(environment)) {
    demand.waiting_since = now_;  // For nothing that others hold.
    return;
  }
  if (!s_.caps_.allows(demand.cap_class)) return capped(id);
  if (!s_.ledger_.fits(demand.resources, demand.bundle)) return short_of_resources(id);
  if (const auto worker = s_.pool_.take(environment, id.owner)) {
    grant(id, *worker);
  } else if (has_worker_coming(environment)) {
    plan(id);
  } else {
    return;  // The pool will say when it can start another one.
  }
  if (demand.target > demand.leases.size() + demand.planned) {
    queue_.push(s_.demands_.rank(id, now_, s_.options_.patience));
  }
}

void NodeScheduler::Pass::grant(DemandId id, const workers::WorkerPool::Taken& worker) {
  const Demand& demand = s_.demands_.at(id);
  Lease lease;
  lease.demand = id;
  lease.cap_class = demand.cap_class;
  lease.worker = worker.worker;
  lease.holding = s_.ledger_.take(demand.resources, demand.bundle);
  lease.cpus = demand.resources.get(kCpu);
  lease.share = share_of(demand.resources);
  lease.granted_at = now_;

  GrantLease effect;
  effect.owner = id.owner;
  effect.shape = id.shape;
  effect.worker = worker.worker;
  effect.epoch = worker.epoch;
  for (const GpuShare& share : lease.holding.gpus) effect.gpus.push_back(share.index);

  s_.caps_.lease_begins(demand.cap_class);
  s_.demands_.change_share(id, lease.share);
  effect.lease = s_.leases_.add(std::move(lease));
  s_.demands_.lease_granted(id, effect.lease, now_);
  ++s_.changes_;
  effects_.push_back(std::move(effect));
}

void NodeScheduler::Pass::plan(DemandId id) {
  Demand& demand = s_.demands_.at(id);
  plans_.push_back({id, s_.ledger_.take(demand.resources, demand.bundle)});
  s_.caps_.lease_begins(demand.cap_class);
  s_.demands_.change_share(id, share_of(demand.resources));
  ++demand.planned;
}

bool NodeScheduler::Pass::has_worker_coming(EnvironmentKey environment) {
  uint32_t& planned = workers_planned_[environment];
  if (planned == s_.pool_.starting_count(environment)) {
    if (!s_.pool_.can_start(environment, now_)) return false;
    s_.pool_.start(environment, s_.new_process(), now_, s_.pool_effects_);
  }
  ++planned;
  return true;
}

void NodeScheduler::Pass::capped(DemandId id) {
  const Demand& demand = s_.demands_.at(id);
  const bool nothing_runs = s_.demands_.job_share(s_.demands_.owner(id.owner).job) == 0;
  if (nothing_runs || s_.ledger_.fits(demand.resources, demand.bundle)) {
    s_.caps_.held_up(demand.cap_class, now_);
  } else {
    reclaim_for({.demand = id, .is_impatient = false, .same_class = true});
  }
}

void NodeScheduler::Pass::short_of_resources(DemandId id) {
  const Demand& demand = s_.demands_.at(id);
  const Instant patient_until = *demand.waiting_since + s_.options_.patience;
  const bool is_impatient = demand.share == 0 && now_ >= patient_until;
  reclaim_for({.demand = id, .is_impatient = is_impatient, .same_class = false});
  if (is_impatient && !withheld_.contains(demand.bundle.group)) {
    withheld_[demand.bundle.group] = s_.ledger_.withhold(demand.resources, demand.bundle);
  } else if (demand.share == 0 && !is_impatient) {
    wake_at(patient_until);
  }
}

void NodeScheduler::Pass::reclaim_for(const Reclaims::Want& want) {
  Demand& demand = s_.demands_.at(want.demand);
  const Duration delay = s_.options_.reclaim_delay;
  const Demands::Owner& owner = s_.demands_.owner(want.demand.owner);
  if (owner.kind == OwnerKind::kWorker && !owner.is_blocked) {
    // Most parents are about to wait for the child, and lend it their own CPUs.
    demand.next_reclaim = std::max(demand.next_reclaim, *demand.waiting_since + s_.options_.slice);
  }
  const std::pair state(s_.changes_, want.is_impatient);
  if (demand.fruitless == state) return;
  if (demand.next_reclaim > now_) return wake_at(demand.next_reclaim);
  if (searches_ == kSearchesMax) return wake_at(now_ + delay);
  ++searches_;
  const Reclaims::Choice choice = reclaims_.choose_for(want, now_);
  demand.next_reclaim = now_ + delay;
  if (choice.victim) {
    reclaim(*choice.victim);
    // The lease may be slow to return: then another is asked for.
    demand.reclaim_delay =
        std::clamp(demand.reclaim_delay * 2, delay, s_.options_.reclaim_delay_max);
    demand.next_reclaim = now_ + demand.reclaim_delay;
    wake_at(demand.next_reclaim);
  } else if (choice.retry_at) {
    wake_at(std::max(*choice.retry_at, demand.next_reclaim));
  } else {
    demand.fruitless = state;
  }
}

void NodeScheduler::Pass::reclaim(LeaseId id) {
  Lease& lease = s_.leases_.at(id);
  lease.is_reclaimed = true;
  effects_.emplace_back(ReclaimLease{id, lease.demand.owner});
}

// Of the node and of each bundle.
void NodeScheduler::Pass::settle_overdrafts() {
  const std::set<BundleId>& overdrawn = s_.ledger_.overdrawn();
  std::erase_if(s_.overdrafts_,
                [&](const auto& entry) { return !overdrawn.contains(entry.first); });
  const Duration allowed = s_.options_.overdraft_allowed;
  for (const BundleId& where : overdrawn) {
    // Give it a moment: owners that wake give idle leases back by themselves.
    const auto [found, is_new] =
        s_.overdrafts_.try_emplace(where, Overdraft{now_ + allowed, allowed});
    Overdraft& overdraft = found->second;
    if (now_ >= overdraft.next_reclaim) {
      const std::optional<LeaseId> victim = reclaims_.choose_for_overdraft(where);
      if (victim) reclaim(*victim);
      overdraft.delay *= 2;
      overdraft.next_reclaim = now_ + overdraft.delay;
    }
    wake_at(overdraft.next_reclaim);
  }
}

void NodeScheduler::Pass::undo_plans() {
  for (const Plan& plan : plans_) {
    Demand& demand = s_.demands_.at(plan.demand);
    s_.ledger_.give_back(plan.holding);
    s_.caps_.lease_unplanned(demand.cap_class);
    s_.demands_.change_share(plan.demand, -share_of(demand.resources));
    demand.planned = 0;
  }
  for (const auto& [group, holding] : withheld_) s_.ledger_.give_back(holding);
}

void NodeScheduler::Pass::wake_at(Instant at) {
  if (!deadline_ || at < *deadline_) deadline_ = at;
}

}  // namespace mobula::scheduler
