#include "core/scheduler/reclaims.h"

#include <algorithm>
#include <tuple>

namespace mobula::scheduler {

Reclaims::Choice Reclaims::choose_for(const Want& want, Instant now) const {
  const ResourceAmount gain = share_of(demands_.at(want.demand).resources);
  // Larger is better: surplus first, then the lowest priorities, the largest holders, the shallowest,
  // the oldest lease.
  using Score =
      std::tuple<bool, int64_t, ResourceAmount, ResourceAmount, ResourceAmount, int64_t, Instant>;
  std::optional<Score> best;
  Choice choice;
  for (const DemandId id : demands_.holding()) {
    if (id == want.demand || is_actor(id) || !could_help(want, id)) continue;
    const Demand& holder = demands_.at(id);
    const Demand& waiting = demands_.at(want.demand);
    const bool in_group = waiting.bundle.in_group() && !want.same_class;
    const std::optional<LeaseId> oldest = oldest_running(holder, [&](const Lease& lease) {
      return !in_group || ledger_.would_help(lease.holding, waiting.resources, waiting.bundle);
    });
    if (!oldest) continue;
    const Instant granted_at = leases_.at(*oldest).granted_at;

    const bool has_surplus = holder.leases.size() > holder.target;
    const Contest shares = contest(want.demand, id);
    const int64_t above = priority_over(want.demand, id);
    const bool holds_more =
        above > 0 ||
        (above == 0 && shares.holding - share_of(holder.resources) >= shares.waiting + gain);
    if (!has_surplus && !holds_more) {
      if (shares.waiting > 0) continue;
      if (granted_at + slice_ > now && !is_probably_idle(id)) {
        if (!choice.retry_at || granted_at + slice_ < *choice.retry_at) {
          choice.retry_at = granted_at + slice_;
        }
        continue;
      }
    }
    const Demands::Owner& owner = demands_.owner(id.owner);
    const Score score(has_surplus, above, demands_.job_share(owner.job), owner.share, holder.share,
                      -static_cast<int64_t>(holder.depth), -granted_at);
    if (best && score <= *best) continue;
    best = score;
    choice.victim = oldest;
  }
  return choice;
}

Reclaims::Choice Reclaims::choose_for_group(const ResourceSet& missing, Instant now) const {
  using Score = std::tuple<bool, bool, ResourceAmount, ResourceAmount, int64_t, Instant>;
  std::optional<Score> best;
  Choice choice;
  for (const DemandId id : demands_.holding()) {
    const Demand& holder = demands_.at(id);
    if (holder.bundle.in_group() || is_actor(id)) continue;
    const bool helps = std::ranges::any_of(missing.amounts(), [&](const auto& entry) {
      return holder.resources.get(entry.first) > 0;
    });
    const std::optional<LeaseId> oldest = helps ? oldest_running(holder) : std::nullopt;
    if (!oldest) continue;
    const Instant granted_at = leases_.at(*oldest).granted_at;
    const bool has_surplus = holder.leases.size() > holder.target;
    const bool is_idle = is_probably_idle(id);
    if (!has_surplus && !is_idle && granted_at + slice_ > now) {
      const Instant at = granted_at + slice_;
      if (!choice.retry_at || at < *choice.retry_at) choice.retry_at = at;
      continue;
    }
    const JobId job = demands_.owner(id.owner).job;
    const Score score(has_surplus, is_idle, demands_.job_share(job), holder.share,
                      -static_cast<int64_t>(holder.depth), -granted_at);
    if (best && score <= *best) continue;
    best = score;
    choice.victim = oldest;
  }
  return choice;
}

std::optional<LeaseId> Reclaims::choose_for_overdraft(const BundleId& where) const {
  using Score = std::tuple<bool, ResourceAmount, ResourceAmount, uint32_t, ResourceAmount>;
  std::optional<Score> best;
  std::optional<LeaseId> victim;
  for (const DemandId id : demands_.holding()) {
    const Demand& holder = demands_.at(id);
    if (holder.resources.get(kCpu) == 0 || is_actor(id)) continue;
    const std::optional<LeaseId> oldest = oldest_running(
        holder, [&](const Lease& lease) { return ledger_.pool_of(lease.holding.bundle) == where; });
    if (!oldest) continue;
    const Demands::Owner& owner = demands_.owner(id.owner);
    const Score score(is_probably_idle(id), demands_.job_share(owner.job), owner.share,
                      holder.depth, holder.share);
    if (best && score <= *best) continue;
    best = score;
    victim = oldest;
  }
  return victim;
}

bool Reclaims::could_help(const Want& want, DemandId holding) const {
  const Demand& waiting = demands_.at(want.demand);
  const Demand& holder = demands_.at(holding);
  if (want.same_class) {
    if (holder.cap_class != waiting.cap_class) return false;
  } else if (holder.bundle.group != waiting.bundle.group) {
    return false;
  } else if (!waiting.bundle.in_group() &&  // In one, it depends on where the lease is.
             !ledger_.would_help({holder.resources, {}, {}}, waiting.resources)) {
    return false;
  }
  const bool same_job = demands_.owner(want.demand.owner).job == demands_.owner(holding.owner).job;
  return !same_job || holder.depth <= waiting.depth || want.is_impatient ||
         waiting.priority > holder.priority || holder.leases.size() > holder.target ||
         is_probably_idle(holding);
}

Reclaims::Contest Reclaims::contest(DemandId waiting, DemandId holding) const {
  const Demands::Owner& waiting_owner = demands_.owner(waiting.owner);
  const Demands::Owner& holding_owner = demands_.owner(holding.owner);
  if (waiting_owner.job != holding_owner.job) {
    return {demands_.job_share(waiting_owner.job), demands_.job_share(holding_owner.job)};
  }
  if (waiting.owner != holding.owner) return {waiting_owner.share, holding_owner.share};
  return {demands_.at(waiting).share, demands_.at(holding).share};
}

// Actors keep what they have.
bool Reclaims::is_actor(DemandId holding) const {
  return demands_.owner(holding.owner).kind == OwnerKind::kActor;
}

int64_t Reclaims::priority_over(DemandId waiting, DemandId holding) const {
  if (demands_.owner(waiting.owner).job != demands_.owner(holding.owner).job) return 0;
  return int64_t{demands_.at(waiting).priority} - demands_.at(holding).priority;
}

// Workers start children to wait for them. One that does not wait has no use for their leases now.
bool Reclaims::is_probably_idle(DemandId holding) const {
  const Demands::Owner& owner = demands_.owner(holding.owner);
  return owner.kind == OwnerKind::kWorker && !owner.is_blocked;
}

std::optional<LeaseId> Reclaims::oldest_running(const Demand& demand) const {
  return oldest_running(demand, [](const Lease&) { return true; });
}

template <typename Accept>
std::optional<LeaseId> Reclaims::oldest_running(const Demand& demand, Accept accepts) const {
  const auto found = std::ranges::find_if(demand.leases, [&](LeaseId id) {
    const Lease& lease = leases_.at(id);
    return !lease.is_blocked && !lease.is_reclaimed && accepts(lease);
  });
  if (found == demand.leases.end()) return std::nullopt;
  return *found;
}

}  // namespace mobula::scheduler
