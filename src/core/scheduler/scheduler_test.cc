#include "core/scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ranges>

#include "core/scheduler/scheduler_test_support.h"

namespace mobula::scheduler {
namespace {

using namespace std::chrono_literals;
using testing_support::resources;
using testing_support::SchedulerHarness;
using testing_support::take;
using testing_support::units;

const ResourceSet kOneCpu = resources(units(1));

void expect_no_more(const SchedulerHarness& node) { EXPECT_TRUE(node.effects.empty()); }

// ---- granting --------------------------------------------------------------------------------

TEST(NodeScheduler, a_lease_is_granted_when_its_worker_is_ready) {
  NodeScheduler::Options options;
  options.total = resources(units(1));
  NodeScheduler scheduler(options);
  const ProcessId driver = scheduler.new_process();
  scheduler.add_driver(driver, JobId{7});
  ASSERT_TRUE(scheduler.define_shape(driver, ShapeId{1}, kOneCpu, 1).has_value());
  ASSERT_TRUE(scheduler.set_target(driver, ShapeId{1}, 1'000'000).has_value());

  Effects effects;
  scheduler.schedule(1s, effects);
  const auto starts = take<StartWorker>(effects);
  ASSERT_EQ(starts.size(), 1);  // The prestarted one serves.
  EXPECT_EQ(starts[0].job, JobId{7});
  EXPECT_TRUE(effects.empty());

  ASSERT_TRUE(scheduler.worker_ready(starts[0].worker, 2s).has_value());
  scheduler.schedule(2s, effects);
  const auto grants = take<GrantLease>(effects);
  ASSERT_EQ(grants.size(), 1);
  EXPECT_EQ(grants[0].owner, driver);
  EXPECT_EQ(grants[0].shape, ShapeId{1});
  EXPECT_EQ(grants[0].worker, starts[0].worker);
  EXPECT_EQ(grants[0].epoch, 1);
  EXPECT_TRUE(grants[0].gpus.empty());
  EXPECT_TRUE(effects.empty());
  EXPECT_EQ(scheduler.available().get(kCpu), 0);
}

TEST(NodeScheduler, a_driver_gets_workers_before_it_asks) {
  SchedulerHarness node(resources(units(4)), /*starts_workers=*/false);
  node.add_driver(1);
  node.settle();
  EXPECT_EQ(take<StartWorker>(node.effects).size(), 4);
  expect_no_more(node);
}

TEST(NodeScheduler, a_returned_worker_is_granted_again_under_a_new_epoch) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const GrantLease first = node.grant(node.held(driver).at(0));
  node.give_back(first.lease);
  node.settle();
  const GrantLease second = node.grant(node.held(driver).at(0));
  EXPECT_NE(second.lease, first.lease);
  EXPECT_EQ(second.worker, first.worker);
  EXPECT_EQ(second.epoch, 2);
}

TEST(NodeScheduler, a_target_is_a_level_not_a_request) {
  SchedulerHarness node(resources(units(8)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 2);
  node.settle();
  node.want(driver, kOneCpu, 2);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 2);
  node.want(driver, kOneCpu, 3);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 3);
  node.want(driver, kOneCpu, 0);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 3);  // Idle leases are the owner's affair.
  for (const LeaseId lease : node.held(driver)) node.give_back(lease);
  node.settle();
  EXPECT_TRUE(node.held(driver).empty());
}

TEST(NodeScheduler, declared_resources_are_never_exceeded) {
  SchedulerHarness node(resources(units(4), 0, units(3)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, resources(units(1), 0, units(1)), 100);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 3);  // "custom" is what runs out.
  node.want(driver, resources(units(1) / 4), 100);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 3 + 4);
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);
}

TEST(NodeScheduler, amounts_down_to_a_ten_thousandth_add_up) {
  SchedulerHarness node(resources(units(1), 0, 3));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, resources(0, 0, 1), 100);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 3);
}

// ---- GPUs ------------------------------------------------------------------------------------

TEST(NodeScheduler, tasks_get_distinct_gpus_and_keep_them_while_blocked) {
  SchedulerHarness node(resources(units(4), units(2)));
  const ProcessId driver = node.add_driver(1);
  const ResourceSet shape = resources(units(1), units(1));
  node.want(driver, shape, 4);
  node.settle();
  const auto leases = node.held(driver);
  ASSERT_EQ(leases.size(), 2);
  EXPECT_EQ(node.grant(leases[0]).gpus, (std::vector<uint32_t>{0}));
  EXPECT_EQ(node.grant(leases[1]).gpus, (std::vector<uint32_t>{1}));

  node.block(node.grant(leases[0]).worker);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 2);
  EXPECT_EQ(node.scheduler.available().get(kCpu), units(3));
  EXPECT_EQ(node.scheduler.available().get(kGpu), 0);

  node.give_back(leases[1]);
  node.settle();
  EXPECT_EQ(node.grant(node.held(driver).back()).gpus, (std::vector<uint32_t>{1}));
}

TEST(NodeScheduler, fractions_share_a_gpu) {
  SchedulerHarness node(resources(units(4), units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, resources(units(1), units(1) / 2), 2);
  node.settle();
  for (const LeaseId lease : node.held(driver)) {
    EXPECT_EQ(node.grant(lease).gpus, (std::vector<uint32_t>{0}));
  }
  node.want(driver, resources(0, units(1)), 1);
  node.settle();
  EXPECT_EQ(node.grant(node.held(driver).back()).gpus, (std::vector<uint32_t>{1}));
}

// ---- fairness --------------------------------------------------------------------------------

TEST(NodeScheduler, a_second_job_gets_half_of_a_node_that_the_first_one_filled) {
  SchedulerHarness node(resources(units(4)));
  const ProcessId first = node.add_driver(1);
  node.want(first, kOneCpu, 1'000'000);
  node.settle();
  ASSERT_EQ(node.held(first).size(), 4);

  const ProcessId second = node.add_driver(2);
  node.want(second, kOneCpu, 10);
  for (size_t got = 1; got <= 2; ++got) {
    node.settle();
    const auto reclaims = take<ReclaimLease>(node.effects);
    ASSERT_EQ(reclaims.size(), 1);  // One at a time.
    EXPECT_EQ(reclaims[0].owner, first);
    node.effects.clear();
    node.give_back(reclaims[0].lease);
    node.settle();
    EXPECT_EQ(node.held(second).size(), got);
  }
  take<GrantLease>(node.effects);
  expect_no_more(node);  // Two and two is fair: nothing more is asked back,
  node.pass_time(1s);
  expect_no_more(node);  // not even later.
}

TEST(NodeScheduler, another_shape_of_the_same_owner_competes_likewise) {
  SchedulerHarness node(resources(units(2), 0, units(1)));
  const ProcessId driver = node.add_driver(1);
  const ResourceSet other = resources(units(1), 0, units(1));
  node.want(driver, kOneCpu, 50);
  node.settle();
  node.want(driver, other, 5);
  node.settle();
  const auto reclaims = take<ReclaimLease>(node.effects);
  ASSERT_EQ(reclaims.size(), 1);
  node.give_back(reclaims[0].lease);
  node.settle();
  EXPECT_EQ(node.held(driver, other).size(), 1);
  EXPECT_EQ(node.held(driver, kOneCpu).size(), 1);
}

TEST(NodeScheduler, more_demands_than_cpus_take_turns) {
  SchedulerHarness node(resources(units(1)));
  std::map<ProcessId, int> turns;
  for (uint32_t job = 1; job <= 3; ++job) {
    const ProcessId driver = node.add_driver(job);
    node.want(driver, kOneCpu, 1000);
    turns[driver] = 0;
  }
  for (int step = 0; step < 300; ++step) {
    node.pass_time(5ms);
    for (const ReclaimLease& reclaim : take<ReclaimLease>(node.effects)) {
      ++turns.at(reclaim.owner);
      node.give_back(reclaim.lease);
    }
    node.effects.clear();
  }
  // 1.5 s in looks 5 ms apart: a turn each.
  for (const auto& [driver, count] : turns) EXPECT_GE(count, 90);
  EXPECT_LE(
      std::ranges::max(turns | std::views::values) - std::ranges::min(turns | std::views::values),
      1);
}

TEST(NodeScheduler, a_lease_that_is_slow_to_return_does_not_keep_others_from_being_asked_for) {
  SchedulerHarness node(resources(units(3)));
  const ProcessId first = node.add_driver(1);
  node.want(first, kOneCpu, 100);
  node.settle();
  const ProcessId second = node.add_driver(2);
  node.want(second, kOneCpu, 1);
  node.settle();
  for (const Duration delay : {1ms, 2ms, 4ms}) {
    EXPECT_EQ(take<ReclaimLease>(node.effects).size(), 1);
    node.pass_time(delay - 1us);
    EXPECT_TRUE(take<ReclaimLease>(node.effects).empty());
    node.pass_time(1us);
  }
  node.pass_time(1s);  // All three have been asked for, once.
  EXPECT_TRUE(take<ReclaimLease>(node.effects).empty());
}

TEST(NodeScheduler, a_request_for_all_cpus_is_served_among_small_ones) {
  SchedulerHarness node(resources(units(4)));
  const ProcessId small = node.add_driver(1);
  node.want(small, kOneCpu, 1'000'000);
  node.settle();
  const ProcessId big = node.add_driver(2);
  node.want(big, resources(units(4)), 1);
  // Every task of the small one takes 50 ms and a lease is returned only when asked back.
  std::vector<std::pair<Instant, LeaseId>> returning;
  for (int step = 0; step < 100 && node.held(big).empty(); ++step) {
    node.pass_time(10ms);
    for (const ReclaimLease& reclaim : take<ReclaimLease>(node.effects)) {
      returning.emplace_back(node.now + 50ms, reclaim.lease);
    }
    std::erase_if(returning, [&](const auto& due) {
      if (due.first > node.now) return false;
      node.give_back(due.second);
      return true;
    });
    node.effects.clear();
  }
  EXPECT_EQ(node.held(big).size(), 1);
  EXPECT_LT(node.now, 2s);  // It began at 1 s.
}

TEST(NodeScheduler, cpus_are_saved_up_for_a_request_that_has_waited_long) {
  SchedulerHarness node(resources(units(4)));
  const ProcessId small = node.add_driver(1);
  node.want(small, kOneCpu, 1'000'000);
  node.settle();
  const ProcessId big = node.add_driver(2);
  node.want(big, resources(units(4)), 1);
  // One small task ends every 10 ms, so that there are never four CPUs free at once by chance.
  for (int step = 0; step < 14 && node.held(big).empty(); ++step) {
    node.give_back(node.held(small).at(0));
    node.pass_time(10ms);
  }
  EXPECT_EQ(node.held(big).size(), 1);
}

TEST(NodeScheduler, what_lacks_a_gpu_holds_no_cpu_up) {
  SchedulerHarness node(resources(units(2), units(1)));
  const ProcessId first = node.add_driver(1);
  node.want(first, resources(units(1), units(1)), 2);
  node.settle();
  ASSERT_EQ(node.held(first).size(), 1);
  node.pass_time(10s);  // The second waits for a GPU, long since impatiently.
  node.want(first, kOneCpu, 1);
  node.settle();
  EXPECT_EQ(node.held(first).size(), 2);
}

TEST(NodeScheduler, a_surplus_lease_is_asked_for_first) {
  SchedulerHarness node(resources(units(3)));
  const ProcessId driver = node.add_driver(1);
  const ResourceSet surplus = resources(units(1), 0, 0);
  node.want(driver, kOneCpu, 2, 1);
  node.want(driver, surplus, 1, 2);
  node.settle();
  node.want(driver, surplus, 0, 2);  // Idle now, not given back yet,
  node.want(driver, kOneCpu, 3, 1);  // while the demand that holds most wants more.
  node.settle();
  const auto reclaims = take<ReclaimLease>(node.effects);
  ASSERT_EQ(reclaims.size(), 1);
  EXPECT_EQ(reclaims[0].lease, node.held(driver, surplus, 2).at(0));
}

TEST(NodeScheduler, a_lease_that_is_probably_idle_is_asked_for_without_delay) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const ProcessId parent = node.grant(node.held(driver).at(0)).worker;
  node.want(parent, kOneCpu, 1, 2);
  node.block(parent);
  node.settle();
  const LeaseId child = node.held(parent).at(0);
  node.unblock(parent);
  node.give_back(node.held(driver).at(0));  // The parent has finished and keeps its child's lease.
  node.settle();
  const auto reclaims = take<ReclaimLease>(node.effects);
  ASSERT_EQ(reclaims.size(), 1);
  EXPECT_EQ(reclaims[0].lease, child);
}

TEST(NodeScheduler, a_parent_that_does_not_wait_yet_reclaims_nothing_for_its_child) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 2);
  node.settle();
  const ProcessId parent = node.grant(node.held(driver).at(0)).worker;
  node.want(parent, kOneCpu, 1, 2);
  node.settle();
  EXPECT_TRUE(take<ReclaimLease>(node.effects).empty());
  node.pass_time(
      2ms);  // It seems to have other things to do than wait: now it is an owner like any.
  EXPECT_EQ(take<ReclaimLease>(node.effects).size(), 1);
}

// ---- blocking --------------------------------------------------------------------------------

TEST(NodeScheduler, a_blocked_worker_lends_its_cpu_to_its_child_first) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 10);
  node.settle();
  const ProcessId parent = node.grant(node.held(driver).at(0)).worker;
  node.want(parent, kOneCpu, 1, 2);
  node.settle();
  EXPECT_TRUE(node.held(parent).empty());
  node.block(parent);
  node.settle();
  EXPECT_EQ(node.held(parent).size(), 1);
  EXPECT_EQ(node.held(driver).size(), 1);
}

TEST(NodeScheduler, children_of_a_blocked_worker_go_before_those_of_a_running_one) {
  SchedulerHarness node(resources(units(2), 0, units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 2);
  node.settle();
  const ProcessId running = node.grant(node.held(driver).at(0)).worker;
  const ProcessId blocked = node.grant(node.held(driver).at(1)).worker;
  node.want(running, kOneCpu, 1, 3);
  node.want(blocked, kOneCpu, 1, 2);
  node.block(blocked);
  node.settle();
  EXPECT_EQ(node.held(blocked).size(), 1);
  EXPECT_TRUE(node.held(running).empty());
}

TEST(NodeScheduler, a_woken_parent_overdraws_and_goes_ahead_of_new_leases) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const ProcessId parent = node.grant(node.held(driver).at(0)).worker;
  node.want(parent, kOneCpu, 2, 2);
  node.block(parent);
  node.settle();
  ASSERT_EQ(node.held(parent).size(), 1);
  node.unblock(parent);
  node.settle();
  EXPECT_EQ(node.scheduler.available().get(kCpu), -units(1));
  node.give_back(node.held(parent).at(0));
  node.settle();
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);
  EXPECT_TRUE(node.held(parent).empty());  // The second child waits for the parent to finish.
}

TEST(NodeScheduler, an_overdraft_that_lasts_is_settled_with_a_reclaim) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId first = node.add_driver(1);
  node.want(first, kOneCpu, 1);
  node.settle();
  const ProcessId parent = node.grant(node.held(first).at(0)).worker;
  node.block(parent);
  const ProcessId second = node.add_driver(2);
  node.want(second, kOneCpu, 1000);
  node.settle();
  ASSERT_EQ(node.held(second).size(), 2);
  node.unblock(parent);
  node.settle();
  EXPECT_TRUE(take<ReclaimLease>(node.effects).empty());
  node.pass_time(10ms);
  const auto reclaims = take<ReclaimLease>(node.effects);
  ASSERT_EQ(reclaims.size(), 1);
  EXPECT_EQ(reclaims[0].owner, second);
  node.give_back(reclaims[0].lease);
  node.settle();
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);
  EXPECT_EQ(node.held(second).size(), 1);
}

TEST(NodeScheduler, blocked_workers_count_against_the_cap_which_rises_when_nothing_moves) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 100);
  const auto block_all = [&] {
    for (const LeaseId lease : node.held(driver)) node.block(node.grant(lease).worker);
    node.settle();
  };
  node.settle();
  block_all();
  EXPECT_EQ(node.held(driver).size(), 2);
  EXPECT_EQ(node.scheduler.available().get(kCpu), units(2));
  node.pass_time(9ms);
  EXPECT_EQ(node.held(driver).size(), 2);
  node.pass_time(1ms);
  EXPECT_EQ(node.held(driver).size(), 3);
  block_all();
  node.pass_time(19ms);
  EXPECT_EQ(node.held(driver).size(), 3);
  node.pass_time(1ms);
  EXPECT_EQ(node.held(driver).size(), 4);
  block_all();
  node.pass_time(40ms);
  EXPECT_EQ(node.held(driver).size(), 5);
}

TEST(NodeScheduler, a_cap_rises_also_while_another_job_uses_all_cpus) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId stuck = node.add_driver(1);
  node.want(stuck, kOneCpu, 3);
  node.settle();
  node.block(node.grant(node.held(stuck).at(0)).worker);
  const ProcessId busy = node.add_driver(2);
  node.want(busy, kOneCpu, 1000);
  node.settle();
  ASSERT_EQ(node.held(busy).size(), 1);
  for (int step = 0; step < 10 && node.held(stuck).size() < 2; ++step) {
    node.pass_time(10ms);
    for (const ReclaimLease& reclaim : take<ReclaimLease>(node.effects)) {
      node.give_back(reclaim.lease);
    }
    node.settle();
  }
  EXPECT_EQ(node.held(stuck).size(), 2);
}

TEST(NodeScheduler, requests_without_cpus_are_capped_at_16_processes) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, {}, 1000);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 16);
  node.pass_time(10ms);
  EXPECT_EQ(node.held(driver).size(), 17);
}

TEST(NodeScheduler, a_cap_of_running_leases_is_shared_fairly_too) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 2);
  node.settle();
  std::vector<ProcessId> parents;
  for (const LeaseId lease : node.held(driver)) parents.push_back(node.grant(lease).worker);
  node.want(parents[0], kOneCpu, 100, 2);
  node.block(parents[0]);
  node.block(parents[1]);
  node.settle();
  ASSERT_EQ(node.held(parents[0]).size(), 2);
  node.want(parents[1], kOneCpu, 1, 2);
  node.settle();
  const auto reclaims = take<ReclaimLease>(node.effects);
  ASSERT_EQ(reclaims.size(), 1);
  EXPECT_EQ(reclaims[0].owner, parents[0]);
  node.give_back(reclaims[0].lease);
  node.settle();
  EXPECT_EQ(node.held(parents[1]).size(), 1);
}

// ---- requests that cannot be met ---------------------------------------------------------------

TEST(NodeScheduler, an_infeasible_shape_is_warned_about_once_and_stays_pending) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  const ResourceSet impossible = resources(units(1), units(1));
  node.want(driver, impossible, 0);
  node.settle();
  expect_no_more(node);
  node.want(driver, impossible, 3);
  node.settle();
  const auto warnings = take<WarnInfeasible>(node.effects);
  ASSERT_EQ(warnings.size(), 1);
  EXPECT_EQ(warnings[0].owner, driver);
  EXPECT_NE(warnings[0].text.find("CPU: 1, GPU: 1"), std::string::npos);
  EXPECT_NE(warnings[0].text.find("{CPU: 2}"), std::string::npos);
  node.want(driver, impossible, 0);
  node.want(driver, impossible, 5);
  node.pass_time(5s);
  take<StopWorker>(node.effects);
  expect_no_more(node);
  EXPECT_EQ(node.scheduler.next_deadline(), std::nullopt);
}

// ---- ends ------------------------------------------------------------------------------------

TEST(NodeScheduler, a_dead_worker_is_replaced) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const GrantLease first = node.grant(node.held(driver).at(0));
  node.exit(first.worker);
  EXPECT_EQ(node.scheduler.lease_returned(driver, first.lease, node.now).error().code,
            ErrorCode::kNotFound);
  node.settle();
  EXPECT_EQ(node.held(driver).size(), 1);
  EXPECT_NE(node.grant(node.held(driver).at(0)).worker, first.worker);
}

TEST(NodeScheduler, what_a_dead_owner_leased_is_stopped_and_counts_until_it_is_gone) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const ProcessId parent = node.grant(node.held(driver).at(0)).worker;
  node.want(parent, kOneCpu, 1, 2);
  node.settle();
  const GrantLease child = node.grant(node.held(parent).at(0));
  node.effects.clear();

  node.exit(parent);
  node.settle();
  const auto stops = take<StopWorker>(node.effects);
  ASSERT_EQ(stops.size(), 1);
  EXPECT_EQ(stops[0].worker, child.worker);
  EXPECT_EQ(stops[0].reason, StopReason::kOwnerGone);
  EXPECT_EQ(node.held(driver).size(), 1);  // A new worker runs it again.
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);
  ASSERT_TRUE(node.scheduler.process_exited(child.worker, node.now).has_value());
  EXPECT_EQ(node.scheduler.available().get(kCpu), units(1));
}

TEST(NodeScheduler, the_end_of_a_job_stops_all_its_workers_and_no_other) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId first = node.add_driver(1);
  const ProcessId second = node.add_driver(2);
  node.want(first, kOneCpu, 1);
  node.want(second, kOneCpu, 2);
  node.settle();
  ASSERT_EQ(node.held(second).size(), 1);
  node.effects.clear();
  ASSERT_TRUE(node.scheduler.job_ended(JobId{1}).has_value());
  EXPECT_EQ(node.scheduler.job_ended(JobId{1}).error().code, ErrorCode::kNotFound);
  node.settle();
  const auto stops = take<StopWorker>(node.effects);
  ASSERT_EQ(stops.size(), 2);
  for (const StopWorker& stop : stops) {
    EXPECT_EQ(stop.reason, StopReason::kJobEnded);
    node.exit(stop.worker);
  }
  node.exit(first);
  node.settle();
  EXPECT_EQ(node.held(second).size(), 2);
}

TEST(NodeScheduler, workers_that_never_come_up_are_reported_and_do_not_spin) {
  SchedulerHarness node(resources(units(1)), /*starts_workers=*/false);
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  int starts = 0;
  int reports = 0;
  for (const Instant end = node.now + 10s; node.now < end;) {
    node.settle();
    reports += static_cast<int>(take<StartFailed>(node.effects).size());
    for (const StartWorker& start : take<StartWorker>(node.effects)) {
      ++starts;
      node.exit(start.worker);
    }
    expect_no_more(node);
    node.settle();
    reports += static_cast<int>(take<StartFailed>(node.effects).size());
    node.now = node.scheduler.next_deadline().value_or(end);
  }
  EXPECT_GE(starts, 6);
  EXPECT_LE(starts, 9);
  EXPECT_EQ(reports, starts - 2);
}

TEST(NodeScheduler, cpus_are_not_kept_for_a_job_whose_workers_do_not_start) {
  SchedulerHarness node(resources(units(1)), /*starts_workers=*/false);
  const ProcessId broken = node.add_driver(1);
  const ProcessId sound = node.add_driver(2);
  node.want(broken, kOneCpu, 1);
  node.want(sound, kOneCpu, 1);
  node.settle();
  for (const StartWorker& start : take<StartWorker>(node.effects)) {
    if (start.job == JobId{1}) {
      node.exit(start.worker);
    } else {
      ASSERT_TRUE(node.scheduler.worker_ready(start.worker, node.now).has_value());
    }
  }
  node.settle();
  EXPECT_EQ(node.held(sound).size(), 1);
}

// ---- nonsense from processes -----------------------------------------------------------------

TEST(NodeScheduler, void_records_are_refused_with_an_error) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  const ProcessId stranger{999};
  NodeScheduler& scheduler = node.scheduler;
  const auto code = [](const Result<void>& result) { return result.error().code; };
  EXPECT_EQ(code(scheduler.define_shape(stranger, ShapeId{1}, kOneCpu, 1)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.set_target(stranger, ShapeId{1}, 1)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.set_target(driver, ShapeId{1}, 1)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.lease_returned(driver, LeaseId{1}, node.now)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.process_blocked(stranger)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.process_unblocked(stranger)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.process_exited(stranger, node.now)), ErrorCode::kNotFound);
  EXPECT_EQ(code(scheduler.worker_ready(driver, node.now)), ErrorCode::kNotFound);

  const ShapeId shape{1};
  EXPECT_TRUE(scheduler.define_shape(driver, shape, kOneCpu, 1).has_value());
  EXPECT_TRUE(scheduler.define_shape(driver, shape, kOneCpu, 1).has_value());
  EXPECT_EQ(code(scheduler.define_shape(driver, shape, kOneCpu, 2)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(scheduler.define_shape(driver, ShapeId{2}, resources(-1), 1)),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(scheduler.define_shape(driver, ShapeId{2}, resources(0, units(3) / 2), 1)),
            ErrorCode::kInvalidArgument);
  EXPECT_TRUE(scheduler.process_blocked(driver).has_value());
  EXPECT_TRUE(scheduler.process_unblocked(driver).has_value());
  scheduler.check_invariants();
}

TEST(NodeScheduler, a_lease_can_be_returned_once_and_by_its_owner_only) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  const ProcessId other = node.add_driver(2);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const LeaseId lease = node.held(driver).at(0);
  EXPECT_EQ(node.scheduler.lease_returned(other, lease, node.now).error().code,
            ErrorCode::kNotFound);
  EXPECT_TRUE(node.scheduler.lease_returned(driver, lease, node.now).has_value());
  EXPECT_EQ(node.scheduler.lease_returned(driver, lease, node.now).error().code,
            ErrorCode::kNotFound);
}

TEST(NodeScheduler, records_of_a_driver_whose_job_has_ended_are_refused) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const GrantLease grant = node.grant(node.held(driver).at(0));
  ASSERT_TRUE(node.scheduler.job_ended(JobId{1}).has_value());
  EXPECT_EQ(node.scheduler.lease_returned(driver, grant.lease, node.now).error().code,
            ErrorCode::kNotFound);
  EXPECT_EQ(node.scheduler.set_target(driver, grant.shape, 2).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);  // Until the worker is gone.
}

TEST(NodeScheduler, blocked_twice_is_blocked_once) {
  SchedulerHarness node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1);
  node.settle();
  const ProcessId worker = node.grant(node.held(driver).at(0)).worker;
  node.block(worker);
  node.block(worker);
  EXPECT_EQ(node.scheduler.available().get(kCpu), units(1));
  node.unblock(worker);
  node.unblock(worker);
  EXPECT_EQ(node.scheduler.available().get(kCpu), 0);
}

TEST(NodeScheduler, any_number_of_demands_that_wait_in_vain_need_no_deadline) {
  SchedulerHarness node(resources(units(4), 0, units(1)));
  const ResourceSet shape = resources(0, 0, units(1));
  for (uint32_t job = 1; job <= 100; ++job) node.want(node.add_driver(job), shape, 1);
  node.pass_time(10s);  // The one lease there is has been asked back long since.
  EXPECT_EQ(take<ReclaimLease>(node.effects).size(), 1);
  take<StopWorker>(node.effects);
  EXPECT_EQ(node.scheduler.next_deadline(), std::nullopt);
}

TEST(NodeScheduler, an_idle_node_has_no_deadline) {
  SchedulerHarness node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want(driver, kOneCpu, 1'000'000);
  node.pass_time(10s);
  EXPECT_EQ(node.scheduler.next_deadline(), std::nullopt);  // Busy, and nobody else waits.
  node.want(driver, kOneCpu, 0);
  for (const LeaseId lease : node.held(driver)) node.give_back(lease);
  node.pass_time(10s);
  EXPECT_EQ(node.scheduler.next_deadline(), std::nullopt);
}

}  // namespace
}  // namespace mobula::scheduler
