// Whole nested programs on a simulated node: they finish, with few processes, and fairly.

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "core/scheduler/nesting_test_support.h"

namespace mobula::scheduler {
namespace {

using namespace std::chrono_literals;
using testing_support::NestedPrograms;
using testing_support::TaskSpec;

NodeScheduler::Options node_with(uint32_t cpus, uint32_t gpus = 0) {
  NodeScheduler::Options options;
  options.total.set(kCpu, cpus * kResourceUnit);
  options.total.set(kGpu, gpus * kResourceUnit);
  return options;
}

ResourceSet cpus(ResourceAmount amount) {
  ResourceSet set;
  set.set(kCpu, amount);
  return set;
}

TaskSpec leaf(Duration work) { return {.resources = cpus(kResourceUnit), .work = work}; }
TaskSpec parent(const TaskSpec& child, uint32_t children, Duration work) {
  return {.resources = cpus(kResourceUnit), .work = work, .children = children, .child = &child};
}

// How long tasks work, how long owners keep an idle lease.
class ThousandThreeDeep : public testing::TestWithParam<std::tuple<Duration, Duration>> {
 protected:
  void run(uint32_t cpus) {
    const auto [work, idle_kept] = GetParam();
    const TaskSpec inner = leaf(work);
    const TaskSpec middle = parent(inner, 1, work);
    const TaskSpec outer = parent(middle, 1, work);
    NestedPrograms node(node_with(cpus));
    node.idle_kept = idle_kept;
    const ProcessId driver = node.add_driver(1);
    node.submit(driver, outer, 1000);
    // Two of three tasks wait for a child, each for 1 ms before it lends its CPU.
    const Duration ideal = 1000 * (3 * work + 2ms + 500us) / cpus;
    EXPECT_TRUE(node.run(ideal + ideal / 5));
    EXPECT_LE(node.workers_peak(), 3 * cpus);
    // A task on each CPU, and parents that just woke.
    EXPECT_LE(node.working_peak(), 2 * cpus);
  }
};

TEST_P(ThousandThreeDeep, finish_on_one_cpu_with_three_workers) { run(1); }
TEST_P(ThousandThreeDeep, finish_on_two_cpus_with_six_workers) { run(2); }
TEST_P(ThousandThreeDeep, finish_on_four_cpus_with_twelve_workers) { run(4); }

INSTANTIATE_TEST_SUITE_P(NestedPrograms, ThousandThreeDeep,
                         testing::Combine(testing::Values(10us, 500us, 20ms, 300ms),
                                          testing::Values(0ms, 2ms, 100ms)));

TEST(NestedPrograms, wide_trees_finish_with_few_workers) {
  const TaskSpec inner = leaf(1ms);
  const TaskSpec middle = parent(inner, 8, 1ms);
  const TaskSpec outer = parent(middle, 8, 1ms);
  NestedPrograms node(node_with(4));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, outer, 50);
  ASSERT_TRUE(node.run(20s));
  EXPECT_LE(node.workers_peak(), 4 * 3 + 8);
}

TEST(NestedPrograms, deep_chains_use_one_worker_a_level) {
  std::vector<TaskSpec> levels(30);
  for (size_t level = 0; level < levels.size(); ++level) {
    levels[level] = leaf(2ms);
    if (level == 0) continue;
    levels[level].children = 1;
    levels[level].child = &levels[level - 1];
  }
  NestedPrograms node(node_with(1));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, levels.back(), 3);
  ASSERT_TRUE(node.run(10s));
  EXPECT_LE(node.workers_peak(), 30 + 6);
}

TEST(NestedPrograms, recursion_goes_deep_before_it_goes_wide) {
  // fib-like: every task starts two of the next level; 2^10 leaves.
  std::vector<TaskSpec> levels(11);
  for (size_t level = 0; level < levels.size(); ++level) {
    levels[level] = leaf(1ms);
    if (level == 0) continue;
    levels[level].children = 2;
    levels[level].child = &levels[level - 1];
  }
  NestedPrograms node(node_with(2));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, levels.back(), 1);
  ASSERT_TRUE(node.run(30s));
  EXPECT_LE(node.workers_peak(), 2 * 11 + 8);
}

TEST(NestedPrograms, tasks_that_wait_for_each_other_do_not_deadlock) {
  // 12 tasks of one class, each blocked until all have started, on 2 CPUs.
  TaskSpec meeting = leaf(1ms);
  meeting.rendezvous = 12;
  NestedPrograms node(node_with(2));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, meeting, 12);
  ASSERT_TRUE(node.run(30s));
  EXPECT_LE(node.workers_peak(), 12 + 1);
}

TEST(NestedPrograms, tasks_that_wait_for_each_other_do_not_deadlock_beside_a_busy_job) {
  TaskSpec meeting = leaf(1ms);
  meeting.rendezvous = 6;
  const TaskSpec work = leaf(5ms);
  NestedPrograms node(node_with(2));
  const ProcessId driver = node.add_driver(1);
  const ProcessId other = node.add_driver(2);
  node.submit(driver, meeting, 6);
  node.submit(other, work, 5000);
  ASSERT_TRUE(node.run(60s));
  EXPECT_LT(node.finished_at(driver), 4s);
}

TEST(NestedPrograms, a_driver_with_a_million_tasks_does_not_delay_another_ones_first) {
  const TaskSpec work = leaf(20ms);
  NestedPrograms node(node_with(2));
  const ProcessId first = node.add_driver(1);
  node.submit(first, work, 1'000'000);
  ASSERT_FALSE(node.run(1s));
  const ProcessId second = node.add_driver(2);
  const Instant submitted = node.now();
  node.submit(second, work, 1);
  for (int step = 0; step < 100 && node.done(second) == 0; ++step) node.run(1ms);
  ASSERT_EQ(node.done(second), 1);
  EXPECT_LT(node.finished_at(second) - submitted, 3 * 20ms);
}

TEST(NestedPrograms, on_one_cpu_a_second_shape_is_served_beside_endless_children) {
  const TaskSpec child = leaf(2ms);
  const TaskSpec fan_out = parent(child, 5000, 2ms);
  TaskSpec other = leaf(2ms);
  other.resources.set(kCpu, kResourceUnit / 2);
  NestedPrograms node(node_with(1));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, fan_out, 1);
  ASSERT_FALSE(node.run(500ms));
  node.submit(driver, other, 20);
  ASSERT_FALSE(node.run(1s));
  EXPECT_GE(node.done(driver), 5);
}

TEST(NestedPrograms, two_jobs_share_a_node_evenly_whatever_their_nesting) {
  const TaskSpec inner = leaf(5ms);
  const TaskSpec outer = parent(inner, 20, 5ms);
  const TaskSpec flat = leaf(5ms);
  NestedPrograms node(node_with(2));
  const ProcessId nested = node.add_driver(1);
  const ProcessId plain = node.add_driver(2);
  node.submit(nested, outer, 1000);
  node.submit(plain, flat, 100'000);
  ASSERT_FALSE(node.run(10s));
  // 4,000 tasks of 5 ms fit into 10 s on 2 CPUs; the plain job gets about half of them.
  EXPECT_GT(node.done(plain), 1500);
  EXPECT_LT(node.done(plain), 2500);
  EXPECT_GT(node.done(nested), 60);
}

// A parent waits for one of its many children, lends its CPU meanwhile, and then works for long.
TEST(NestedPrograms, a_parent_that_wakes_early_gets_its_cpu_of_the_node_or_the_bundle_back) {
  for (const bool in_bundle : {false, true}) {
    NestedPrograms node(node_with(4));
    PlacementGroup group;
    group.job = JobId{1};
    group.bundles = {cpus(2 * kResourceUnit), cpus(2 * kResourceUnit)};
    const ProcessId driver = node.add_driver(1);
    BundleRef where;
    if (in_bundle) where = {*node.scheduler().add_group(group, node.now()), 1, true};
    TaskSpec child = leaf(2ms);
    child.bundle = where;
    TaskSpec outer = parent(child, 100'000, 20s);
    outer.bundle = where;
    outer.children_awaited = 20;
    node.submit(driver, outer, 1);
    ASSERT_FALSE(node.run(10s));  // Half of its work is done, and now it starts its children.
    Duration overdrawn{0};
    bool was_overdrawn_at_the_end = true;
    for (int step = 0; step < 2000; ++step) {
      ASSERT_FALSE(node.run(1ms));
      was_overdrawn_at_the_end = !node.scheduler().overdrawn().empty();
      if (was_overdrawn_at_the_end) overdrawn += 1ms;
    }
    EXPECT_GT(overdrawn.count(), 0) << in_bundle;  // Else this shows nothing.
    EXPECT_LT(overdrawn, 50ms) << in_bundle;
    EXPECT_FALSE(was_overdrawn_at_the_end) << in_bundle;
  }
}

TEST(NestedPrograms, parents_with_gpus_keep_them_and_their_children_run) {
  const TaskSpec inner = leaf(2ms);
  TaskSpec outer = parent(inner, 3, 2ms);
  outer.resources.set(kGpu, kResourceUnit / 2);
  NestedPrograms node(node_with(1, 1));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, outer, 200);
  ASSERT_TRUE(node.run(30s));
  EXPECT_LE(node.workers_peak(), 8);
}

TEST(NestedPrograms, tasks_without_cpus_nest_too) {
  TaskSpec inner = leaf(5ms);
  inner.resources = {};
  TaskSpec outer = parent(inner, 3, 5ms);
  outer.resources = {};
  NestedPrograms node(node_with(1));
  const ProcessId driver = node.add_driver(1);
  node.submit(driver, outer, 500);
  ASSERT_TRUE(node.run(30s));
  EXPECT_LE(node.workers_peak(), 2 * 16 + 8);
}

}  // namespace
}  // namespace mobula::scheduler
