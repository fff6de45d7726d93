#include <gtest/gtest.h>

#include <algorithm>

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

// Shape n has priority n - 100.
struct Node : SchedulerHarness {
  using SchedulerHarness::SchedulerHarness;

  void want_at(ProcessId owner, int32_t priority, uint32_t target, uint32_t depth = 1) {
    const ShapeId shape{static_cast<uint32_t>(100 + priority)};
    ASSERT_TRUE(scheduler.define_shape(owner, shape, kOneCpu, depth, priority).has_value());
    ASSERT_TRUE(scheduler.set_target(owner, shape, target).has_value());
  }
  std::vector<LeaseId> held_at(ProcessId owner, int32_t priority) const {
    std::vector<LeaseId> found;
    for (const auto& [id, grant] : grants) {
      const bool is_shape = grant.shape == ShapeId{static_cast<uint32_t>(100 + priority)};
      if (is_shape && grant.owner == owner) found.push_back(id);
    }
    return found;
  }
};

TEST(Priority, the_highest_of_those_who_wait_is_served_first) {
  Node node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want_at(driver, 0, 1);
  node.settle();
  node.want_at(driver, -3, 1);
  node.want_at(driver, 2, 1);
  node.want_at(driver, 9, 1);
  for (const int32_t next : {9, 2, -3}) {
    const LeaseId lease = node.grants.begin()->first;
    const int32_t served = static_cast<int32_t>(number(node.grant(lease).shape)) - 100;
    node.want_at(driver, served, 0);
    node.give_back(lease);
    node.settle();
    EXPECT_EQ(node.held_at(driver, next).size(), 1) << next;
  }
}

TEST(Priority, a_lease_of_a_lower_one_is_asked_back_at_once) {
  Node node(resources(units(2)));
  const ProcessId driver = node.add_driver(1);
  node.want_at(driver, -1, 1);
  node.want_at(driver, 1, 1);
  node.settle();
  const LeaseId lowest = node.held_at(driver, -1).at(0);
  take<ReclaimLease>(node.effects);
  node.want_at(driver, 5, 1);
  node.settle();
  const auto asked = take<ReclaimLease>(node.effects);
  ASSERT_EQ(asked.size(), 1);
  EXPECT_EQ(asked[0].lease, lowest);
}

TEST(Priority, a_lower_one_takes_nothing_from_a_higher_one_that_it_has_a_lease_beside) {
  Node node(resources(units(4)));
  const ProcessId driver = node.add_driver(1);
  node.want_at(driver, 0, 1);
  node.settle();
  node.want_at(driver, 1, 3);
  node.settle();
  take<ReclaimLease>(node.effects);
  node.want_at(driver, 0, 4);  // Three held by the other against its one.
  node.pass_time(1s);
  EXPECT_TRUE(take<ReclaimLease>(node.effects).empty());
}

TEST(Priority, a_lease_that_comes_back_goes_to_the_higher_one_again) {
  Node node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  node.want_at(driver, 1, 1);
  node.settle();
  node.want_at(driver, 0, 1);
  node.pass_time(500ms);
  for (int i = 0; i < 10; ++i) {
    node.give_back(node.held_at(driver, 1).at(0));  // It still wants one.
    node.pass_time(200ms);
    ASSERT_EQ(node.held_at(driver, 1).size(), 1);
    ASSERT_TRUE(node.held_at(driver, 0).empty());
  }
}

TEST(Priority, another_job_has_its_share_whatever_its_priorities) {
  Node node(resources(units(2)));
  const ProcessId loud = node.add_driver(1);
  const ProcessId quiet = node.add_driver(2);
  node.want_at(loud, 50, 2);
  node.settle();
  node.want_at(quiet, -50, 2);
  node.pass_time(100ms);
  ASSERT_FALSE(take<ReclaimLease>(node.effects).empty());
  node.give_back(node.held_at(loud, 50).at(0));
  node.settle();
  EXPECT_EQ(node.held_at(quiet, -50).size(), 1);
  EXPECT_EQ(node.held_at(loud, 50).size(), 1);
}

TEST(Priority, a_priority_is_part_of_what_a_shape_is) {
  Node node(resources(units(1)));
  const ProcessId driver = node.add_driver(1);
  ASSERT_TRUE(node.scheduler.define_shape(driver, ShapeId{1}, kOneCpu, 1, 3).has_value());
  EXPECT_TRUE(node.scheduler.define_shape(driver, ShapeId{1}, kOneCpu, 1, 3).has_value());
  EXPECT_FALSE(node.scheduler.define_shape(driver, ShapeId{1}, kOneCpu, 1, 4).has_value());
}

}  // namespace
}  // namespace mobula::scheduler
