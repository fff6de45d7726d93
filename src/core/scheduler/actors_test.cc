// Actors as owners of one lease each.

#include <gtest/gtest.h>

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

class SchedulerOfActors : public testing::Test {
 protected:
  SchedulerOfActors() { driver_ = node_.add_driver(1); }
  ~SchedulerOfActors() override { node_.scheduler.check_invariants(); }

  ProcessId add_actor(ResourceAmount cpus_for_life) {
    const ProcessId actor = node_.scheduler.new_process();
    EXPECT_TRUE(node_.scheduler.add_actor(actor, JobId{1}, {kOneCpu, cpus_for_life, 1}));
    node_.settle();
    node_.scheduler.check_invariants();
    return actor;
  }
  ResourceAmount free_cpus() const { return node_.scheduler.available().get(kCpu); }

  SchedulerHarness node_{resources(units(2))};
  ProcessId driver_;
};

TEST_F(SchedulerOfActors, one_that_runs_on_nothing_holds_no_cpu_while_it_is_made_either) {
  const ProcessId actor = add_actor(0);
  ASSERT_EQ(node_.held(actor).size(), 1U);
  EXPECT_EQ(free_cpus(), units(2));
  node_.block(node_.grant(node_.held(actor)[0]).worker);
  EXPECT_EQ(free_cpus(), units(2));
  node_.scheduler.actor_made(actor);
  EXPECT_EQ(free_cpus(), units(2));
}

TEST_F(SchedulerOfActors, one_that_runs_on_nothing_is_made_while_all_cpus_are_held) {
  add_actor(units(1));
  node_.want(driver_, kOneCpu, 1);
  node_.settle();
  ASSERT_EQ(free_cpus(), 0);
  EXPECT_EQ(node_.held(add_actor(0)).size(), 1U);
  EXPECT_TRUE(node_.held(add_actor(units(1))).empty());
}

TEST_F(SchedulerOfActors, one_that_runs_on_nothing_is_not_made_where_there_can_be_no_cpu_for_it) {
  const ResourceSet three = resources(units(3));
  const ProcessId actor = node_.scheduler.new_process();
  ASSERT_TRUE(node_.scheduler.add_actor(actor, JobId{1}, {three, 0, 1}));
  node_.settle();
  EXPECT_TRUE(node_.held(actor).empty());
  const auto warnings = take<WarnInfeasible>(node_.effects);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].text.find("CPU: 3"), std::string::npos) << warnings[0].text;
}

TEST_F(SchedulerOfActors, what_else_one_asks_for_is_waited_for) {
  SchedulerHarness node(resources(units(2), units(1)));
  node.add_driver(1);
  std::vector<ProcessId> actors;
  for (int i = 0; i < 2; ++i) {
    actors.push_back(node.scheduler.new_process());
    const ResourceSet with_gpu = resources(units(1), units(1));
    ASSERT_TRUE(node.scheduler.add_actor(actors.back(), JobId{1}, {with_gpu, 0, 1}));
    node.settle();
  }
  EXPECT_EQ(node.held(actors[0]).size(), 1U);
  EXPECT_TRUE(node.held(actors[1]).empty());
  EXPECT_EQ(node.scheduler.available().get(kCpu), units(2));
  EXPECT_EQ(node.scheduler.available().get(kGpu), 0);
}

TEST_F(SchedulerOfActors, as_many_of_them_as_there_are_workers_run_on_one_cpu) {
  for (int i = 0; i < 10; ++i) {
    const ProcessId actor = add_actor(0);
    ASSERT_EQ(node_.held(actor).size(), 1U) << i;
    node_.scheduler.actor_made(actor);
  }
  EXPECT_EQ(free_cpus(), units(2));
}

TEST_F(SchedulerOfActors, what_one_holds_for_life_is_lent_while_it_is_made_and_not_after) {
  const ProcessId actor = add_actor(units(1));
  const ProcessId worker = node_.grant(node_.held(actor)[0]).worker;
  node_.block(worker);
  EXPECT_EQ(free_cpus(), units(2));
  node_.scheduler.actor_made(actor);
  EXPECT_EQ(free_cpus(), units(1));
  node_.block(worker);
  EXPECT_EQ(free_cpus(), units(1));
}

TEST_F(SchedulerOfActors, a_worker_that_died_is_replaced_also_while_all_cpus_are_held) {
  const ProcessId actor = add_actor(0);
  const ProcessId first = node_.grant(node_.held(actor)[0]).worker;
  node_.scheduler.actor_made(actor);
  add_actor(units(1));
  add_actor(units(1));
  node_.exit(first);
  node_.settle();
  ASSERT_EQ(node_.held(actor).size(), 1U);
  EXPECT_NE(node_.grant(node_.held(actor)[0]).worker, first);
  EXPECT_EQ(free_cpus(), 0);
}

TEST_F(SchedulerOfActors, one_that_is_over_has_its_worker_killed) {
  const ProcessId actor = add_actor(units(1));
  const ProcessId worker = node_.grant(node_.held(actor)[0]).worker;
  node_.scheduler.actor_made(actor);
  node_.scheduler.actor_over(actor);
  node_.settle();
  const auto stops = take<StopWorker>(node_.effects);
  ASSERT_EQ(stops.size(), 1U);
  EXPECT_EQ(stops[0].worker, worker);
  node_.exit(worker);
  EXPECT_EQ(free_cpus(), units(2));
}

TEST_F(SchedulerOfActors, an_actor_is_never_asked_for_what_it_has) {
  const ProcessId one = add_actor(units(1));
  const ProcessId other = add_actor(units(1));
  node_.scheduler.actor_made(one);
  node_.scheduler.actor_made(other);
  node_.want(driver_, kOneCpu, 1);
  node_.pass_time(1s);
  EXPECT_TRUE(take<ReclaimLease>(node_.effects).empty());
  EXPECT_TRUE(node_.held(driver_).empty());
  node_.scheduler.actor_over(one);
  node_.settle();
  node_.exit(take<StopWorker>(node_.effects).at(0).worker);
  node_.settle();
  EXPECT_EQ(node_.held(driver_).size(), 1U);
}

TEST_F(SchedulerOfActors, one_waits_for_a_cpu_and_idle_leases_of_tasks_are_asked_back) {
  node_.want(driver_, kOneCpu, 2);
  node_.settle();
  ASSERT_EQ(node_.held(driver_).size(), 2U);
  const ProcessId actor = add_actor(units(1));
  node_.pass_time(100ms);
  EXPECT_TRUE(node_.held(actor).empty());
  const auto reclaims = take<ReclaimLease>(node_.effects);
  ASSERT_FALSE(reclaims.empty());
  node_.give_back(reclaims[0].lease);
  node_.settle();
  EXPECT_EQ(node_.held(actor).size(), 1U);
}

TEST_F(SchedulerOfActors, a_job_without_a_driver_has_actors) {
  node_.scheduler.add_job(JobId{2});
  const ProcessId actor = node_.scheduler.new_process();
  ASSERT_TRUE(node_.scheduler.add_actor(actor, JobId{2}, {kOneCpu, 0, 1}));
  node_.settle();
  EXPECT_EQ(node_.held(actor).size(), 1U);
  EXPECT_FALSE(node_.scheduler.add_actor(node_.scheduler.new_process(), JobId{3}, {kOneCpu, 0, 1}));
}

}  // namespace
}  // namespace mobula::scheduler
