// Placement groups in the scheduler: bundles reserved together, leases in them, and their end.

#include <gtest/gtest.h>

#include <algorithm>

#include "base/check.h"
#include "core/scheduler/scheduler.h"
#include "core/scheduler/scheduler_test_support.h"

namespace mobula::scheduler {
namespace {

using namespace std::chrono_literals;
using testing_support::resources;
using testing_support::SchedulerHarness;
using testing_support::take;
using testing_support::units;

const ResourceSet kOneCpu = resources(units(1));

class SchedulerOfGroups : public testing::Test {
 protected:
  SchedulerOfGroups() { driver_ = node_.add_driver(1); }
  void TearDown() override { node_.scheduler.check_invariants(); }

  PlacementGroupId add(std::vector<ResourceSet> bundles, bool detached = false) {
    PlacementGroup group;
    group.job = JobId{1};
    group.bundles = std::move(bundles);
    group.detached = detached;
    const auto id = node_.scheduler.add_group(group, node_.now);
    EXPECT_TRUE(id.has_value());
    node_.settle();
    return *id;
  }
  // Leases of a shape of its own, in the group.
  ShapeId want_in(const BundleRef& where, const ResourceSet& shape, uint32_t target,
                  uint32_t depth = 1) {
    const ShapeId id{1000 + next_shape_++};
    EXPECT_TRUE(node_.scheduler.define_shape(driver_, id, shape, depth, {0, {}, where}));
    EXPECT_TRUE(node_.scheduler.set_target(driver_, id, target));
    node_.settle();
    return id;
  }
  size_t held(ShapeId shape) const {
    size_t count = 0;
    for (const auto& [id, grant] : node_.grants) count += grant.shape == shape ? 1 : 0;
    return count;
  }
  const GrantLease& lease_of(ShapeId shape) const {
    const auto found = std::ranges::find_if(
        node_.grants, [shape](const auto& entry) { return entry.second.shape == shape; });
    MOBULA_CHECK(found != node_.grants.end());
    return found->second;
  }
  bool is_placed(PlacementGroupId id) const { return node_.scheduler.groups().is_placed(id); }
  ResourceAmount free_cpus() const { return node_.scheduler.available().get(kCpu); }

  SchedulerHarness node_{resources(units(4), units(2), units(1))};
  ProcessId driver_;
  uint32_t next_shape_ = 0;
};

TEST_F(SchedulerOfGroups, bundles_are_taken_from_the_node_together) {
  const PlacementGroupId group = add({kOneCpu, resources(units(1), units(1))});
  EXPECT_TRUE(is_placed(group));
  EXPECT_EQ(node_.scheduler.available(), resources(units(2), units(1), units(1)));
  EXPECT_TRUE(node_.scheduler.remove_group(group));
  EXPECT_EQ(node_.scheduler.available(), node_.scheduler.total());
  EXPECT_FALSE(node_.scheduler.remove_group(group));
}

TEST_F(SchedulerOfGroups, leases_in_a_bundle_take_from_it_and_not_from_the_node) {
  const PlacementGroupId group = add({kOneCpu, kOneCpu});
  const ShapeId first = want_in({group, 0}, kOneCpu, 5);
  EXPECT_EQ(held(first), 1U);
  const ShapeId any = want_in({group}, kOneCpu, 5);
  EXPECT_EQ(held(any), 1U);
  EXPECT_EQ(free_cpus(), units(2));
  node_.want(driver_, kOneCpu, 5);
  node_.settle();
  EXPECT_EQ(node_.held(driver_).size(), 4U);
}

TEST_F(SchedulerOfGroups, what_asks_for_nothing_waits_for_its_group_too) {
  const PlacementGroupId first = add({resources(units(4))});
  const PlacementGroupId second = add({kOneCpu});
  const ShapeId free = want_in({second}, {}, 1);
  EXPECT_EQ(held(free), 0U);
  EXPECT_TRUE(node_.scheduler.remove_group(first));
  node_.settle();
  EXPECT_EQ(held(free), 1U);
}

TEST_F(SchedulerOfGroups, a_blocked_worker_lends_the_cpus_of_its_bundle_to_others_in_it) {
  const PlacementGroupId group = add({kOneCpu});
  const ShapeId parent = want_in({group, 0, true}, kOneCpu, 1);
  ASSERT_EQ(held(parent), 1U);
  const ShapeId child = want_in({group, kAnyBundle, true}, kOneCpu, 1, 2);
  EXPECT_EQ(held(child), 0U);
  node_.block(lease_of(parent).worker);
  node_.settle();
  EXPECT_EQ(held(child), 1U);
  EXPECT_EQ(free_cpus(), units(3));
}

TEST_F(SchedulerOfGroups, an_overdraft_that_lasts_in_a_bundle_is_settled_with_a_reclaim_there) {
  const PlacementGroupId group = add({kOneCpu, kOneCpu});
  node_.want(driver_, kOneCpu, 2);
  node_.settle();
  const ShapeId parent = want_in({group, 0, true}, kOneCpu, 1);
  const ShapeId elsewhere = want_in({group, 1}, kOneCpu, 1);
  node_.block(lease_of(parent).worker);
  const ShapeId child = want_in({group, 0, true}, kOneCpu, 1, 2);
  ASSERT_EQ(held(child), 1U);
  ASSERT_EQ(held(elsewhere), 1U);
  node_.unblock(lease_of(parent).worker);
  node_.settle();
  EXPECT_EQ(node_.scheduler.overdrawn().size(), 1U);
  EXPECT_TRUE(take<ReclaimLease>(node_.effects).empty());
  node_.pass_time(10ms);
  auto reclaims = take<ReclaimLease>(node_.effects);
  ASSERT_EQ(reclaims.size(), 1U);
  EXPECT_EQ(reclaims[0].lease, lease_of(child).lease);
  node_.give_back(reclaims[0].lease);
  node_.settle();
  EXPECT_TRUE(node_.scheduler.overdrawn().empty());
  EXPECT_EQ(held(child), 0U);
  EXPECT_EQ(held(elsewhere), 1U);
}

TEST_F(SchedulerOfGroups, what_a_removed_group_has_overdrawn_the_node_is_short_of) {
  const PlacementGroupId group = add({kOneCpu});
  const ShapeId parent = want_in({group, 0, true}, kOneCpu, 1);
  node_.block(lease_of(parent).worker);
  want_in({group, 0, true}, kOneCpu, 1, 2);
  node_.unblock(lease_of(parent).worker);
  node_.settle();
  EXPECT_TRUE(node_.scheduler.remove_group(group));
  node_.settle();
  EXPECT_EQ(free_cpus(), units(2));
  EXPECT_TRUE(node_.scheduler.overdrawn().empty());
}

TEST_F(SchedulerOfGroups, leases_are_asked_back_for_one_that_waits) {
  node_.want(driver_, kOneCpu, 4);
  node_.settle();
  ASSERT_EQ(node_.held(driver_).size(), 4U);
  node_.pass_time(5ms);
  const PlacementGroupId group = add({kOneCpu, kOneCpu});
  const auto reclaims = take<ReclaimLease>(node_.effects);
  ASSERT_EQ(reclaims.size(), 2U);
  for (const ReclaimLease& reclaim : reclaims) node_.give_back(reclaim.lease);
  node_.settle();
  EXPECT_TRUE(is_placed(group));
}

TEST_F(SchedulerOfGroups, room_is_saved_up_for_one_that_waits_long_among_many_short_tasks) {
  node_.want(driver_, kOneCpu, 100);
  node_.settle();
  const PlacementGroupId group = add({resources(units(3))});
  // Each lease is given back after a while, one at a time, and is wanted again at once.
  for (int round = 0; round < 100 && !is_placed(group); ++round) {
    node_.pass_time(2ms);
    const auto held = node_.held(driver_);
    if (!held.empty()) node_.give_back(held[0]);
    node_.settle();
  }
  EXPECT_TRUE(is_placed(group));
  EXPECT_LT(node_.now, 1s + 500ms);
}

TEST_F(SchedulerOfGroups, a_small_group_passes_a_large_one_that_cannot_be_placed_yet) {
  node_.want(driver_, kOneCpu, 1);
  node_.settle();
  const PlacementGroupId large = add({resources(units(4))});
  const PlacementGroupId small = add({kOneCpu});
  EXPECT_FALSE(is_placed(large));
  EXPECT_TRUE(is_placed(small));
}

TEST_F(SchedulerOfGroups, one_that_can_never_be_placed_is_in_nobodys_way) {
  const PlacementGroupId large = add({resources(units(3)), resources(units(2))});
  PlacementGroup spread;
  spread.job = JobId{1};
  spread.bundles = {kOneCpu, kOneCpu};
  spread.strategy = GroupStrategy::kStrictSpread;
  ASSERT_TRUE(node_.scheduler.add_group(spread, node_.now).has_value());
  node_.want(driver_, resources(units(4)), 1);
  node_.pass_time(1s);
  EXPECT_FALSE(is_placed(large));
  EXPECT_EQ(node_.scheduler.groups().pending().size(), 2U);
  EXPECT_EQ(node_.held(driver_).size(), 1U);
}

TEST_F(SchedulerOfGroups, removal_stops_workers_and_their_resources_return_with_their_end) {
  const PlacementGroupId group = add({kOneCpu, resources(units(1), units(1))});
  const ShapeId shape = want_in({group, 1}, resources(units(1), units(1)), 2);
  ASSERT_EQ(held(shape), 1U);
  const GrantLease lease = lease_of(shape);
  EXPECT_EQ(lease.gpus.size(), 1U);
  EXPECT_TRUE(node_.scheduler.remove_group(group));
  node_.settle();
  const auto stops = take<StopWorker>(node_.effects);
  ASSERT_EQ(stops.size(), 1U);
  EXPECT_EQ(stops[0].worker, lease.worker);
  EXPECT_EQ(stops[0].reason, StopReason::kGroupRemoved);
  EXPECT_EQ(take<GroupGone>(node_.effects).size(), 1U);
  EXPECT_EQ(node_.scheduler.available(), resources(units(3), units(1), units(1)));
  node_.exit(lease.worker);
  node_.settle();
  EXPECT_EQ(node_.scheduler.available(), node_.scheduler.total());
}

TEST_F(SchedulerOfGroups, who_wants_something_in_a_removed_group_is_told_each_time) {
  const PlacementGroupId group = add({kOneCpu});
  EXPECT_TRUE(node_.scheduler.remove_group(group));
  const ShapeId shape = want_in({group}, kOneCpu, 3);
  EXPECT_EQ(take<GroupGone>(node_.effects).size(), 1U);
  EXPECT_TRUE(node_.scheduler.set_target(driver_, shape, 1));
  node_.settle();
  EXPECT_EQ(take<GroupGone>(node_.effects).size(), 1U);
  want_in({PlacementGroupId{77}}, kOneCpu, 1);
  EXPECT_EQ(take<GroupGone>(node_.effects).size(), 1U);
}

TEST_F(SchedulerOfGroups, what_no_bundle_can_hold_never_runs_and_that_is_said_for_good) {
  const PlacementGroupId group = add({kOneCpu, resources(units(1), units(1))});
  want_in({group, 0}, resources(units(1), units(1)), 1);
  want_in({group}, resources(units(2)), 1);
  want_in({group, 7}, kOneCpu, 1);
  const auto warnings = take<WarnInfeasible>(node_.effects);
  ASSERT_EQ(warnings.size(), 3U);
  for (const WarnInfeasible& warning : warnings) EXPECT_TRUE(warning.for_good) << warning.text;
}

TEST_F(SchedulerOfGroups, groups_end_with_their_job_unless_they_are_detached) {
  const PlacementGroupId group = add({kOneCpu});
  const PlacementGroupId detached = add({kOneCpu}, /*detached=*/true);
  take<GroupChanged>(node_.effects);
  EXPECT_TRUE(node_.scheduler.job_ended(JobId{1}));
  node_.settle();
  EXPECT_EQ(take<GroupChanged>(node_.effects).size(), 1U);
  EXPECT_FALSE(node_.scheduler.groups().is_here(group));
  EXPECT_TRUE(is_placed(detached));
  EXPECT_EQ(free_cpus(), units(3));
}

TEST_F(SchedulerOfGroups, a_name_is_given_once_at_a_time) {
  PlacementGroup group;
  group.job = JobId{1};
  group.name = "one";
  group.bundles = {kOneCpu};
  const auto first = node_.scheduler.add_group(group, node_.now);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(node_.scheduler.add_group(group, node_.now).has_value());
  group.name_space = "elsewhere";
  EXPECT_TRUE(node_.scheduler.add_group(group, node_.now).has_value());
  group.name_space = "";
  EXPECT_TRUE(node_.scheduler.remove_group(*first));
  EXPECT_TRUE(node_.scheduler.add_group(group, node_.now).has_value());
}

TEST_F(SchedulerOfGroups, impossible_bundles_are_refused) {
  PlacementGroup group;
  group.job = JobId{1};
  for (const auto& bundles : std::vector<std::vector<ResourceSet>>{
           {}, {{}}, {resources(-1)}, {resources(0, 15'000)}, {kOneCpu, {}}}) {
    group.bundles = bundles;
    EXPECT_FALSE(node_.scheduler.add_group(group, node_.now).has_value());
  }
}

TEST_F(SchedulerOfGroups, an_actor_in_a_bundle_keeps_its_part_of_it_for_life) {
  const PlacementGroupId group = add({kOneCpu});
  const ProcessId actor = node_.scheduler.new_process();
  ASSERT_TRUE(node_.scheduler.add_actor(
      actor, JobId{1}, {kOneCpu, units(1), 1, kJobEnvironment, {group, 0, false}}));
  node_.settle();
  ASSERT_EQ(node_.held(actor).size(), 1U);
  node_.scheduler.actor_made(actor);
  const ShapeId shape = want_in({group, 0}, kOneCpu, 1);
  EXPECT_EQ(held(shape), 0U);
  const ProcessId worker = node_.grant(node_.held(actor)[0]).worker;
  node_.scheduler.actor_over(actor);
  node_.exit(worker);
  node_.settle();
  EXPECT_EQ(held(shape), 1U);
  EXPECT_EQ(free_cpus(), units(3));
}

TEST_F(SchedulerOfGroups, an_actor_that_keeps_no_cpu_is_made_in_a_bundle_that_is_full) {
  const PlacementGroupId group = add({kOneCpu});
  const ShapeId shape = want_in({group, 0}, kOneCpu, 1);
  ASSERT_EQ(held(shape), 1U);
  const ProcessId actor = node_.scheduler.new_process();
  ASSERT_TRUE(node_.scheduler.add_actor(actor, JobId{1},
                                        {kOneCpu, 0, 1, kJobEnvironment, {group, 0, false}}));
  node_.settle();
  EXPECT_EQ(node_.held(actor).size(), 1U);
  const ProcessId other = node_.scheduler.new_process();
  ASSERT_TRUE(node_.scheduler.add_actor(
      other, JobId{1}, {resources(units(2)), 0, 1, kJobEnvironment, {group, 0, false}}));
  node_.settle();
  EXPECT_TRUE(node_.held(other).empty());
}

TEST(LedgerOfBundles, whole_gpus_are_reserved_before_fractions_break_one) {
  Ledger ledger(resources(0, units(2)));
  const std::vector<ResourceSet> bundles = {resources(0, 5000), resources(0, units(1))};
  EXPECT_TRUE(ledger.reserve(PlacementGroupId{1}, bundles));
  EXPECT_FALSE(ledger.reserve(PlacementGroupId{2}, std::vector{resources(0, units(1))}));
  EXPECT_TRUE(ledger.reserve(PlacementGroupId{2}, std::vector{resources(0, 5000)}));
  ledger.dissolve(PlacementGroupId{1});
  ledger.dissolve(PlacementGroupId{2});
  EXPECT_EQ(ledger.available(), ledger.total());
  EXPECT_TRUE(ledger.fits(resources(0, units(2))));
}

}  // namespace
}  // namespace mobula::scheduler
