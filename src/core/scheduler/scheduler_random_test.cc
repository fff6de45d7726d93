// Random histories of a node: drivers come and go, workers crash, processes send nonsense and stale
// records. The world keeps books of its own, from effects alone; they are the specification.
//
// MOBULA_SEED=n replays one history. MOBULA_RANDOM_SECONDS=n runs fresh ones for so long.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduler/scheduler.h"

namespace mobula::scheduler {
namespace {

using namespace std::chrono_literals;

#ifdef MOBULA_SANITIZED
constexpr int kSeeds = 25;  // Each step takes ten times as long.
#else
constexpr int kSeeds = 200;
#endif
constexpr int kSteps = 2000;

ResourceSet resources(ResourceAmount cpus, ResourceAmount gpus, ResourceAmount custom) {
  ResourceSet set;
  set.set(kCpu, cpus);
  set.set(kGpu, gpus);
  set.set("custom", custom);
  return set;
}

class RandomNode {
 public:
  explicit RandomNode(uint64_t seed)
      : random_(seed), total_(random_total()), limits_(random_limits()), scheduler_(options()) {}

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      now_ += std::chrono::microseconds(below(10) == 0 ? below(200'000) : below(3000));
      for (uint64_t events = 1 + below(3); events > 0; --events) random_event();
      schedule();
    }
  }

  // From here on everybody behaves: workers come up, tasks of 2 ms finish, leases are given back when
  // asked for. Everything feasible must be served.
  void finish() {
    for (auto& [worker, state] : workers_) {
      if (state.is_registered) expect_ok(scheduler_.process_unblocked(worker));
      state.is_blocked = false;
    }
    for (auto& [demand, wanted] : wanted_) {
      wanted = std::min(wanted, uint32_t{20});
      expect_ok(scheduler_.set_target(demand.owner, demand.shape, wanted));
    }
    for (int round = 0; round < 5000 && is_unfinished(); ++round) {
      while (!preparing_.empty()) prepare(true);
      const std::vector<std::pair<ProcessId, bool>> workers = registered_by_process();
      for (const auto& [worker, registered] : workers) {
        if (stopped_.contains(worker)) {
          exit_worker(worker);
        } else if (!registered) {
          register_worker(worker);
        }
      }
      const std::map<LeaseId, GrantLease> leases = leases_;
      for (const auto& [id, lease] : leases) {
        if (!leases_.contains(id)) continue;
        if (actors_.contains(lease.owner)) {
          end_actor(lease.owner);
          continue;
        }
        uint32_t& wanted = wanted_.at({lease.owner, lease.shape});
        if (wanted > 0) --wanted;
        expect_ok(scheduler_.set_target(lease.owner, lease.shape, wanted));
        give_back(id);
      }
      now_ += 2ms;
      schedule();
      if (round % 20 == 19) remove_served_groups();
    }
    EXPECT_FALSE(is_unfinished());
    EXPECT_TRUE(scheduler_.groups().pending().empty());
  }

 private:
  // Those in which nobody wants anything any more, and those that can never be placed.
  void remove_served_groups() {
    std::vector<PlacementGroupId> over;
    for (const auto& [id, group] : groups_) {
      const bool is_wanted = std::ranges::any_of(wanted_, [&](const auto& entry) {
        const BundleRef& where = shape_bundles_.at(entry.first);
        return entry.second > 0 && where.group == id &&
               fits_in_group(where, shapes_.at(entry.first));
      });
      const bool can_be_placed = group.is_placed || scheduler_.groups().find(id)->is_feasible;
      if (!group.is_removed && ((group.is_placed && !is_wanted) || !can_be_placed)) {
        over.push_back(id);
      }
    }
    for (const PlacementGroupId id : over) remove_group(id);
  }

  struct Worker {
    JobId job{};
    EnvironmentId environment{};
    bool is_registered = false;
    uint32_t epoch = 0;
    LeaseId lease{};  // 0: none. Of a gone owner: kept until the worker is gone.
    ResourceSet held{};
    std::vector<uint32_t> gpus{};
    ResourceAmount gpu_share = 0;
    BundleRef bundle{};
    bool is_blocked = false;
    bool is_for_life = false;  // Of an actor that is made.
  };

  struct Group {
    JobId job{};
    bool detached = false;
    bool has_name = false;
    bool is_placed = false;
    bool is_removed = false;
    bool is_told = false;  // Of its removal.
    std::vector<ResourceSet> bundles{};
  };

  struct Limits {
    uint32_t drivers = 0;
    uint32_t workers = 0;
    uint32_t shapes = 0;
  };

  uint64_t below(uint64_t limit) { return random_() % limit; }
  ResourceSet random_total() {
    constexpr ResourceAmount kOne = kResourceUnit;
    return resources(static_cast<ResourceAmount>(1 + below(4)) * kOne,
                     static_cast<ResourceAmount>(below(3)) * kOne,
                     static_cast<ResourceAmount>(below(3)) * kOne / 2);
  }
  // Most worlds are small: what goes wrong in a large one mostly does in a small one, sooner.
  Limits random_limits() {
    if (below(10) == 0) return {.drivers = 4, .workers = 40, .shapes = 6};
    return {.drivers = 2, .workers = 6 + static_cast<uint32_t>(below(6)), .shapes = 2};
  }
  NodeScheduler::Options options() {
    NodeScheduler::Options made;
    made.total = total_;
    made.pool.start_timeout = 500ms;
    made.pool.workers_max = limits_.workers;
    return made;
  }

  template <typename Container>
  auto pick(Container& from) {
    return std::next(from.begin(), static_cast<std::ptrdiff_t>(below(from.size())));
  }

  static void expect_ok(const Result<void>& result) {
    ASSERT_TRUE(result.has_value()) << result.error().message;
  }
  static void expect_refused(const Result<void>& result) { ASSERT_FALSE(result.has_value()); }

  // ---- events --------------------------------------------------------------------------------

  void random_event() {
    switch (below(19)) {
      case 0:
        if (drivers_.size() < limits_.drivers) add_driver();
        break;
      case 1:
        if (!drivers_.empty() && below(20) == 0) end_driver();
        break;
      case 2:
      case 3:
        if (!workers_.empty()) {
          const auto& [worker, state] = *pick(workers_);
          if (!state.is_registered) register_worker(worker);
        }
        break;
      case 4:
        if (!workers_.empty() && below(4) == 0) exit_worker(pick(workers_)->first);
        break;
      case 5:
        if (!stopped_.empty()) exit_worker(*pick(stopped_));
        break;
      case 6:
      case 7:
      case 8:
        want_something();
        break;
      case 9:
      case 10:
        if (!leases_.empty()) {
          const GrantLease lease = pick(leases_)->second;
          if (!actors_.contains(lease.owner)) {
            give_back(lease.lease);
          } else if (below(2) == 0) {
            make_actor(lease);
          }
        }
        break;
      case 11:
      case 12:
        block_or_wake();
        break;
      case 13:
        if (!preparing_.empty()) prepare(below(3) != 0);
        break;
      case 14:
        if (!drivers_.empty()) add_group();
        break;
      case 15:
        if (!groups_.empty() && below(3) == 0) remove_group(pick(groups_)->first);
        break;
      case 16:
        if (!drivers_.empty() && actors_.size() < limits_.workers) add_actor();
        break;
      case 17:
        if (!actors_.empty() && below(3) == 0) end_actor(pick(actors_)->first);
        break;
      default:
        nonsense();
    }
  }

  // What of its CPUs it does not keep must be there, not free.
  void add_actor() {
    const ProcessId actor = scheduler_.new_process();
    const JobId job = pick(drivers_)->second;
    const BundleRef bundle = random_bundle();
    ResourceSet shape = random_shape();
    const ResourceAmount kept = below(2) == 0 ? 0 : shape.get(kCpu);
    const auto depth = static_cast<uint32_t>(1 + below(3));
    const bool could_fit = bundle.in_group() ? scheduler_.groups().could_ever_fit(bundle, shape)
                                             : total_.covers(shape);
    expect_ok(scheduler_.add_actor(actor, job, {shape, kept, depth, kJobEnvironment, bundle}));
    if (could_fit) shape.set(kCpu, kept);
    const DemandId demand{actor, NodeScheduler::kActorShape};
    actors_[actor] = job;
    shapes_[demand] = shape;
    shape_bundles_[demand] = bundle;
    shape_environments_[demand] = kJobEnvironment;
    wanted_[demand] = 1;
  }

  void make_actor(const GrantLease& lease) {
    scheduler_.actor_made(lease.owner);
    Worker& worker = workers_.at(lease.worker);
    worker.is_for_life = true;
    worker.is_blocked = false;
  }

  void end_actor(ProcessId actor) {
    scheduler_.actor_over(actor);
    actors_.erase(actor);
    forget_owner(actor);
  }

  void add_driver() {
    const ProcessId driver = scheduler_.new_process();
    const JobId job{next_job_++};
    const Environments::Needs needs = random_needs();
    scheduler_.add_driver(driver, job, needs);
    drivers_[driver] = job;
    owners_[driver] = job;
    if (!needs.preparation) ready_.insert({job, kJobEnvironment});
    for (uint64_t more = below(3); more > 0; --more) {
      const Environments::Needs others = random_needs();
      const auto id = scheduler_.add_environment(job, others);
      ASSERT_TRUE(id.has_value());
      if (!others.preparation) ready_.insert({job, *id});
      environments_[job] = number(*id);
    }
  }

  Environments::Needs random_needs() {
    if (below(2) == 0) return {};
    return {.preparation = true,
            .early = below(2) == 0,
            .time_limit = below(2) == 0 ? std::optional<Duration>(200ms) : std::nullopt};
  }

  // One of those under way ends.
  void prepare(bool well) {
    const EnvironmentKey key = *pick(preparing_);
    preparing_.erase(key);
    if (well) {
      scheduler_.environment_ready(key, now_);
      ready_.insert(key);
    } else {
      scheduler_.environment_failed(key, "it cannot be");
    }
  }

  void end_driver() {
    const auto [driver, job] = *pick(drivers_);
    drivers_.erase(driver);
    const std::map<ProcessId, JobId> actors = actors_;
    for (const auto& [actor, its_job] : actors) {
      if (its_job == job) end_actor(actor);
    }
    if (below(2) == 0) {
      expect_ok(scheduler_.process_exited(driver, now_));
      forget_owner(driver);
      expect_ok(scheduler_.job_ended(job));
    } else {
      expect_ok(scheduler_.job_ended(job));
      expect_ok(scheduler_.process_exited(driver, now_));
    }
    std::vector<ProcessId> ended;
    for (const auto& [owner, its_job] : owners_) {
      if (its_job == job) ended.push_back(owner);
    }
    for (const ProcessId owner : ended) forget_owner(owner);
    const auto is_of_job = [job = job](EnvironmentKey key) { return key.job == job; };
    std::erase_if(preparing_, is_of_job);
    std::erase_if(ready_, is_of_job);
    environments_.erase(job);
    for (auto& [id, group] : groups_) {
      if (group.job == job && !group.detached) group.is_removed = true;
    }
    expect_refused(scheduler_.job_ended(job));
  }

  void add_group() {
    PlacementGroup group;
    group.job = pick(drivers_)->second;
    group.detached = below(4) == 0;
    if (below(3) == 0) group.name = "name";
    for (uint64_t bundles = 1 + below(3); bundles > 0; --bundles) {
      ResourceSet bundle = random_shape();
      if (bundle.empty()) bundle = resources(kResourceUnit, 0, 0);
      group.bundles.push_back(bundle);
    }
    const bool is_taken = !group.name.empty() && std::ranges::any_of(groups_, [](const auto& one) {
      return one.second.has_name && !one.second.is_removed;
    });
    const auto id = scheduler_.add_group(group, now_);
    ASSERT_EQ(id.has_value(), !is_taken);
    if (!id) return;
    groups_[*id] = {.job = group.job,
                    .detached = group.detached,
                    .has_name = !group.name.empty(),
                    .bundles = group.bundles};
  }

  void remove_group(PlacementGroupId id) {
    Group& group = groups_.at(id);
    if (group.is_removed) {
      expect_refused(scheduler_.remove_group(id));
      if (!group.is_told) return;
      groups_.erase(id);
    } else {
      expect_ok(scheduler_.remove_group(id));
      group.is_removed = true;
    }
  }

  BundleRef random_bundle() {
    if (groups_.empty() || below(2) == 0) return {};
    const auto& [id, group] = *pick(groups_);
    const auto index = static_cast<int32_t>(below(group.bundles.size() + 1)) - 1;
    return {id, index, below(2) == 0};
  }

  void register_worker(ProcessId worker) {
    Worker& state = workers_.at(worker);
    expect_ok(scheduler_.worker_ready(worker, now_));
    state.is_registered = true;
    expect_refused(scheduler_.worker_ready(worker, now_));
    const bool job_lives = std::ranges::any_of(
        drivers_, [&](const auto& driver) { return driver.second == state.job; });
    if (job_lives && !stopped_.contains(worker)) owners_[worker] = state.job;
  }

  void exit_worker(ProcessId worker) {
    leases_.erase(workers_.at(worker).lease);
    workers_.erase(worker);
    stopped_.erase(worker);
    forget_owner(worker);
    expect_ok(scheduler_.process_exited(worker, now_));
    expect_refused(scheduler_.process_exited(worker, now_));
  }

  void forget_owner(ProcessId owner) {
    owners_.erase(owner);
    std::erase_if(wanted_, [&](const auto& entry) { return entry.first.owner == owner; });
    std::erase_if(shapes_, [&](const auto& entry) { return entry.first.owner == owner; });
    std::erase_if(shape_bundles_, [&](const auto& entry) { return entry.first.owner == owner; });
    std::erase_if(leases_, [&](const auto& entry) { return entry.second.owner == owner; });
  }

  ResourceSet random_shape() {
    switch (below(6)) {
      case 0:
        return resources(kResourceUnit, kResourceUnit, 0);
      case 1:
        return resources(kResourceUnit / 2, kResourceUnit / 4, 0);
      case 2:
        return resources(0, 0, 5000);
      case 3:
        return {};
      case 4:
        return resources(static_cast<ResourceAmount>(1 + below(5)) * kResourceUnit, 0, 0);
      default:
        return resources(kResourceUnit, 0, 0);
    }
  }

  void want_something() {
    if (owners_.empty()) return;
    const DemandId demand{pick(owners_)->first,
                          ShapeId{1 + static_cast<uint32_t>(below(limits_.shapes))}};
    if (!shapes_.contains(demand)) {
      const ResourceSet shape = random_shape();
      const auto depth = static_cast<uint32_t>(1 + below(3));
      const auto priority = static_cast<int32_t>(below(3) == 0 ? below(5) : 0) - 2;
      const EnvironmentId environment{
          static_cast<uint32_t>(below(environments_[owners_.at(demand.owner)] + 1))};
      const BundleRef bundle = random_bundle();
      const NodeScheduler::Manner manner(priority, environment, bundle);
      shape_bundles_[demand] = bundle;
      expect_ok(scheduler_.define_shape(demand.owner, demand.shape, shape, depth, manner));
      shape_environments_[demand] = environment;
      expect_refused(scheduler_.define_shape(demand.owner, demand.shape, shape, depth + 1, manner));
      expect_refused(scheduler_.define_shape(demand.owner, demand.shape, shape, depth,
                                             {priority, EnvironmentId{9}}));
      shapes_[demand] = shape;
    }
    const auto target = static_cast<uint32_t>(below(3) == 0 ? 0 : below(below(4) == 0 ? 1000 : 5));
    expect_ok(scheduler_.set_target(demand.owner, demand.shape, target));
    wanted_[demand] = target;
  }

  void give_back(LeaseId id) {
    const GrantLease lease = leases_.at(id);
    leases_.erase(id);
    expect_ok(scheduler_.lease_returned(lease.owner, id, now_));
    expect_refused(scheduler_.lease_returned(lease.owner, id, now_));
    Worker& worker = workers_.at(lease.worker);
    worker = {.job = worker.job,
              .environment = worker.environment,
              .is_registered = true,
              .epoch = worker.epoch};
  }

  void block_or_wake() {
    if (workers_.empty()) return;
    const auto& [id, worker] = *pick(workers_);
    if (!worker.is_registered) return;
    const bool blocks = below(2) == 0;
    expect_ok(blocks ? scheduler_.process_blocked(id) : scheduler_.process_unblocked(id));
    if (number(worker.lease) != 0 && !worker.is_for_life) workers_.at(id).is_blocked = blocks;
  }

  void nonsense() {
    const ProcessId stranger{1'000'000 + static_cast<uint32_t>(below(10))};
    const ShapeId unknown{99};
    expect_refused(scheduler_.define_shape(stranger, ShapeId{1}, {}, 1));
    expect_refused(scheduler_.set_target(stranger, ShapeId{1}, 5));
    expect_refused(scheduler_.lease_returned(stranger, LeaseId{1 + below(50)}, now_));
    expect_refused(scheduler_.process_blocked(stranger));
    expect_refused(scheduler_.process_unblocked(stranger));
    expect_refused(scheduler_.process_exited(stranger, now_));
    expect_refused(scheduler_.worker_ready(stranger, now_));
    if (owners_.empty()) return;
    const ProcessId owner = pick(owners_)->first;
    expect_refused(scheduler_.set_target(owner, unknown, 5));
    expect_refused(scheduler_.define_shape(owner, unknown, resources(-5, 0, 0), 1));
    expect_refused(scheduler_.define_shape(owner, unknown, resources(0, 15'000, 0), 1));
    const LeaseId any{1 + below(1000)};
    const auto lease = leases_.find(any);
    if (lease == leases_.end() || lease->second.owner != owner) {
      expect_refused(scheduler_.lease_returned(owner, any, now_));
    }
  }

  // ---- effects -------------------------------------------------------------------------------

  void schedule() {
    size_t count = schedule_once();
    // Without events it comes to rest: what it does is no reason to do something else for ever.
    if (below(8) != 0) return;
    for (int again = 0; again < 20 && count > 0; ++again) count = schedule_once();
    ASSERT_EQ(count, 0);
  }

  size_t schedule_once() {
    Effects effects;
    scheduler_.schedule(now_, effects);
    scheduler_.check_invariants();
    for (const Effect& effect : effects) {
      std::visit([this](const auto& it) { carry_out(it); }, effect);
    }
    check_available();
    if (const auto deadline = scheduler_.next_deadline()) {
      EXPECT_GT(*deadline, now_);
    }
    return effects.size();
  }

  void carry_out(const GrantLease& grant) {
    const DemandId demand{grant.owner, grant.shape};
    const bool is_actor = actors_.contains(grant.owner);
    ASSERT_TRUE(is_actor || owners_.contains(grant.owner));
    ASSERT_TRUE(workers_.contains(grant.worker));
    Worker& worker = workers_.at(grant.worker);
    ASSERT_TRUE(worker.is_registered);
    ASSERT_FALSE(stopped_.contains(grant.worker));
    ASSERT_EQ(worker.job, is_actor ? actors_.at(grant.owner) : owners_.at(grant.owner));
    ASSERT_EQ(worker.environment, shape_environments_.at(demand));
    ASSERT_EQ(number(worker.lease), 0);
    ASSERT_EQ(grant.epoch, worker.epoch + 1);
    ASSERT_GT(number(grant.lease), last_lease_);

    last_lease_ = number(grant.lease);
    const ResourceSet& shape = shapes_.at(demand);
    worker.epoch = grant.epoch;
    worker.lease = grant.lease;
    worker.held = shape;
    worker.gpus = grant.gpus;
    worker.is_blocked = false;
    worker.is_for_life = false;
    const ResourceAmount gpus = shape.get(kGpu);
    worker.gpu_share = std::min(gpus, kResourceUnit);
    ASSERT_EQ(grant.gpus.size(), static_cast<size_t>((gpus + kResourceUnit - 1) / kResourceUnit));
    leases_[grant.lease] = grant;

    size_t held = 0;
    for (const auto& [id, lease] : leases_) {
      if (lease.owner == grant.owner && lease.shape == grant.shape) ++held;
    }
    ASSERT_LE(held, wanted_.at(demand));
    worker.bundle = shape_bundles_.at(demand);
    if (worker.bundle.in_group()) return check_bundles(worker.bundle);
    const ResourceSet left = available();
    for (const auto& [name, amount] : shape.amounts()) ASSERT_GE(left.get(name), 0) << name;
    check_gpus();
  }

  // No bundle, and so no group, has more running in it than it reserves.
  void check_bundles(const BundleRef& where) {
    const Group& group = groups_.at(where.group);
    ASSERT_TRUE(group.is_placed);
    ASSERT_FALSE(group.is_removed);
    ResourceSet left;
    for (const ResourceSet& bundle : group.bundles) left.add(bundle);
    std::map<int32_t, ResourceSet> held;
    for (const auto& [id, worker] : workers_) {
      if (number(worker.lease) == 0 || worker.bundle.group != where.group) continue;
      ResourceSet running = worker.held;
      if (worker.is_blocked) running.set(kCpu, 0);
      left.subtract(running);
      held[worker.bundle.index].add(running);
    }
    // Woken workers may overdraw CPUs, but then nothing that takes some is granted in that bundle.
    for (const auto& [name, amount] : left.amounts()) {
      if (name == kCpu) continue;
      ASSERT_GE(amount, 0) << name;
    }
    if (where.index == kAnyBundle) return;
    const ResourceSet& bundle = group.bundles.at(static_cast<size_t>(where.index));
    for (const auto& [name, amount] : held[where.index].amounts()) {
      if (name == kCpu) continue;
      ASSERT_LE(amount, bundle.get(name)) << name;
    }
  }

  void carry_out(const GroupChanged& changed) {
    Group& group = groups_.at(changed.group);
    if (group.is_removed) {
      group.is_told = true;
      return;
    }
    ASSERT_FALSE(group.is_placed);
    group.is_placed = true;
  }

  void carry_out(const GroupGone& gone) {
    if (!shapes_.contains(gone.demand)) return;
    const BundleRef& bundle = shape_bundles_.at(gone.demand);
    ASSERT_TRUE(bundle.in_group());
    const auto group = groups_.find(bundle.group);
    ASSERT_TRUE(group == groups_.end() || group->second.is_removed);
    uint32_t held = 0;
    for (const auto& [id, lease] : leases_) {
      if (lease.owner == gone.demand.owner && lease.shape == gone.demand.shape) ++held;
    }
    uint32_t& wanted = wanted_.at(gone.demand);
    wanted = std::min(wanted, held);
    expect_ok(scheduler_.set_target(gone.demand.owner, gone.demand.shape, wanted));
  }

  void carry_out(const ReclaimLease& reclaim) {
    ASSERT_TRUE(leases_.contains(reclaim.lease));
    ASSERT_EQ(leases_.at(reclaim.lease).owner, reclaim.owner);
    ASSERT_TRUE(reclaimed_.insert(reclaim.lease).second);
  }

  void carry_out(const WarnInfeasible& warning) {
    const DemandId demand{warning.owner, warning.shape};
    if (!shapes_.contains(demand)) return;
    ASSERT_EQ(warning.for_good, shape_bundles_.at(demand).in_group());
    if (!warning.for_good) {
      ASSERT_FALSE(total_.covers(shapes_.at(demand)));
    }
    ASSERT_TRUE(warned_.insert(demand).second);
  }

  void carry_out(const StartWorker& start) {
    ASSERT_TRUE(ready_.contains({start.job, start.environment}));
    const Worker worker{.job = start.job, .environment = start.environment};
    ASSERT_TRUE(workers_.emplace(start.worker, worker).second);
    ASSERT_LE(workers_.size(), limits_.workers);
  }

  void carry_out(const StopWorker& stop) {
    // It may have exited in the same batch in which its stop was decided.
    if (!workers_.contains(stop.worker)) return;
    ASSERT_TRUE(stopped_.insert(stop.worker).second);
    if (stop.reason == StopReason::kIdle) {
      ASSERT_EQ(number(workers_.at(stop.worker).lease), 0);
    }
  }

  void carry_out(const StartFailed& failed) { ASSERT_GE(failed.failures, 3); }

  void carry_out(const PrepareEnvironment& prepare) {
    ASSERT_FALSE(ready_.contains(prepare.environment));
    ASSERT_TRUE(preparing_.insert(prepare.environment).second);
    ASSERT_LE(preparing_.size(), 4);
  }

  // Effects of a pass are in order: those of a job that has ended meanwhile do not matter.
  void carry_out(const ReleaseEnvironment& release) {
    preparing_.erase(release.environment);
    ready_.erase(release.environment);
  }

  void carry_out(const EnvironmentFailed& failed) {
    for (const DemandId demand : failed.demands) {
      if (!shapes_.contains(demand)) continue;
      ASSERT_EQ(shape_environments_.at(demand), failed.environment.id);
      uint32_t held = 0;
      for (const auto& [id, lease] : leases_) {
        if (lease.owner == demand.owner && lease.shape == demand.shape) ++held;
      }
      // As owners do: what waits fails, also what was asked for meanwhile.
      uint32_t& wanted = wanted_.at(demand);
      wanted = std::min(wanted, held);
      expect_ok(scheduler_.set_target(demand.owner, demand.shape, wanted));
    }
  }

  // ---- books ---------------------------------------------------------------------------------

  ResourceSet available() const {
    ResourceSet left = total_;
    for (const auto& [id, group] : groups_) {
      if (!group.is_placed || group.is_removed) continue;
      for (const ResourceSet& bundle : group.bundles) left.subtract(bundle);
    }
    for (const auto& [id, worker] : workers_) {
      if (number(worker.lease) == 0) continue;
      const auto group = groups_.find(worker.bundle.group);
      if (group != groups_.end() && !group->second.is_removed) continue;
      left.subtract(worker.held);
      if (worker.is_blocked) left.set(kCpu, left.get(kCpu) + worker.held.get(kCpu));
    }
    return left;
  }

  void check_available() const { ASSERT_EQ(scheduler_.available(), available()); }

  void check_gpus() const {
    std::map<uint32_t, ResourceAmount> used;
    for (const auto& [id, worker] : workers_) {
      if (number(worker.lease) == 0) continue;
      for (const uint32_t index : worker.gpus) used[index] += worker.gpu_share;
    }
    for (const auto& [index, amount] : used) {
      ASSERT_LT(index, static_cast<uint32_t>(total_.get(kGpu) / kResourceUnit));
      ASSERT_LE(amount, kResourceUnit);
    }
  }

  std::vector<std::pair<ProcessId, bool>> registered_by_process() const {
    std::vector<std::pair<ProcessId, bool>> found;
    for (const auto& [id, worker] : workers_) found.emplace_back(id, worker.is_registered);
    return found;
  }

  bool fits_in_group(const BundleRef& where, const ResourceSet& shape) const {
    const auto group = groups_.find(where.group);
    if (group == groups_.end() || group->second.is_removed || !group->second.is_placed)
      return false;
    const std::vector<ResourceSet>& bundles = group->second.bundles;
    if (where.index != kAnyBundle)
      return bundles.at(static_cast<size_t>(where.index)).covers(shape);
    return std::ranges::any_of(bundles, [&](const auto& bundle) { return bundle.covers(shape); });
  }

  bool is_unfinished() const {
    for (const auto& [demand, wanted] : wanted_) {
      const BundleRef& bundle = shape_bundles_.at(demand);
      const ResourceSet& shape = shapes_.at(demand);
      if (wanted > 0 && !bundle.in_group() && total_.covers(shape)) return true;
      if (wanted > 0 && bundle.in_group() && fits_in_group(bundle, shape)) return true;
    }
    return std::ranges::any_of(groups_, [](const auto& group) { return !group.second.is_removed; });
  }

  std::mt19937_64 random_;
  const ResourceSet total_;
  const Limits limits_;
  NodeScheduler scheduler_;
  Instant now_ = 1s;
  uint32_t next_job_ = 1;
  uint64_t last_lease_ = 0;
  std::map<ProcessId, JobId> drivers_;
  std::map<ProcessId, JobId> owners_;
  std::map<ProcessId, JobId> actors_;
  std::map<ProcessId, Worker> workers_;  // Started and not gone.
  std::set<ProcessId> stopped_;
  std::map<DemandId, ResourceSet> shapes_;
  std::map<DemandId, uint32_t> wanted_;
  std::map<LeaseId, GrantLease> leases_;  // Held by an owner that is there.
  std::set<LeaseId> reclaimed_;
  std::set<DemandId> warned_;
  std::map<JobId, uint32_t> environments_;  // Besides the job's own.
  std::map<DemandId, EnvironmentId> shape_environments_;
  std::map<DemandId, BundleRef> shape_bundles_;
  std::map<PlacementGroupId, Group> groups_;
  std::set<EnvironmentKey> preparing_;
  std::set<EnvironmentKey> ready_;
};

void run_history(uint64_t seed) {
  SCOPED_TRACE("replay with MOBULA_SEED=" + std::to_string(seed));
  RandomNode node(seed);
  node.run(kSteps);
  node.finish();
}

TEST(NodeSchedulerRandom, books_balance_whatever_happens) {
  if (const char* seed = std::getenv("MOBULA_SEED")) {
    run_history(std::strtoull(seed, nullptr, 10));
    return;
  }
  if (const char* seconds = std::getenv("MOBULA_RANDOM_SECONDS")) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(seconds));
    std::random_device entropy;
    while (std::chrono::steady_clock::now() < end && !testing::Test::HasFailure()) {
      const uint64_t seed = (uint64_t{entropy()} << 32) | entropy();
      std::cout << "MOBULA_SEED=" << seed << std::endl;
      run_history(seed);
    }
    return;
  }
  for (uint64_t seed = 1; seed <= kSeeds && !testing::Test::HasFailure(); ++seed) run_history(seed);
}

}  // namespace
}  // namespace mobula::scheduler
