#include "core/store/lookers.h"

#include <gtest/gtest.h>

#include <vector>

namespace mobula::store {
namespace {

constexpr ProcessId kDriver{1};
constexpr ProcessId kOne{2};
constexpr ProcessId kTwo{3};

Looker working(ProcessId process) { return {.process = process, .executes_task = true}; }
Looker waiting(ProcessId process) {
  return {.process = process, .executes_task = true, .waits_for_room = true};
}

TEST(Lookers, while_one_of_them_works_nobody_is_refused) {
  const std::vector<Looker> lookers = {waiting(kOne), working(kTwo), {.process = kDriver}};
  const std::vector<ProcessId> all = {kOne};
  const LookersVerdict verdict = judge_lookers(lookers, all);
  EXPECT_TRUE(verdict.some_work);
  EXPECT_FALSE(verdict.to_refuse);
}

TEST(Lookers, a_call_of_an_actor_is_work_too) {
  const std::vector<Looker> lookers = {{.process = kOne, .executes_call = true}};
  EXPECT_TRUE(judge_lookers(lookers, {}).some_work);
}

TEST(Lookers, who_waits_in_get_does_not_work) {
  const std::vector<Looker> lookers = {
      {.process = kOne, .executes_task = true, .waits_in_get = true}};
  const LookersVerdict verdict = judge_lookers(lookers, {});
  EXPECT_FALSE(verdict.some_work);
  EXPECT_FALSE(verdict.to_refuse);
}

TEST(Lookers, of_tasks_that_all_wait_for_each_other_the_last_is_refused) {
  const std::vector<Looker> lookers = {waiting(kOne), waiting(kTwo)};
  const std::vector<ProcessId> all = {kTwo, kOne, ProcessId{9}};  // 9 looks at nothing.
  const LookersVerdict verdict = judge_lookers(lookers, all);
  EXPECT_FALSE(verdict.some_work);
  EXPECT_EQ(verdict.to_refuse, kOne);
}

TEST(Lookers, nobody_is_refused_early_while_a_driver_or_an_actor_looks_too) {
  const std::vector<ProcessId> all = {kOne};
  const std::vector<Looker> with_driver = {waiting(kOne), {.process = kDriver}};
  EXPECT_FALSE(judge_lookers(with_driver, all).to_refuse);
  const std::vector<Looker> with_actor = {
      waiting(kOne), {.process = kTwo, .executes_call = true, .waits_for_room = true}};
  EXPECT_FALSE(judge_lookers(with_actor, all).to_refuse);
}

TEST(Lookers, nobody_looks_and_nobody_is_refused_early) {
  const std::vector<ProcessId> all = {kOne};
  const LookersVerdict verdict = judge_lookers({}, all);
  EXPECT_FALSE(verdict.some_work);
  EXPECT_FALSE(verdict.to_refuse);
}

}  // namespace
}  // namespace mobula::store
