#include "core/workers/worker_pool.h"

#include <gtest/gtest.h>

namespace mobula::workers {
namespace {

using namespace std::chrono_literals;

constexpr JobId kJob{1};
constexpr EnvironmentKey kPlain{kJob, kJobEnvironment};
constexpr ProcessId kOwner{100};
constexpr ProcessId kOther{101};

template <typename T>
std::vector<T> take(Effects& effects) {
  std::vector<T> taken;
  std::erase_if(effects, [&](const Effect& effect) {
    const T* match = std::get_if<T>(&effect);
    if (match) taken.push_back(*match);
    return match != nullptr;
  });
  return taken;
}

class WorkerPoolTest : public testing::Test {
 protected:
  void SetUp() override { pool_.add_job(kJob); }
  void TearDown() override {
    EXPECT_TRUE(effects_.empty());
    pool_.check_invariants();
  }

  ProcessId start(Instant now) {
    const ProcessId id{next_++};
    pool_.start(kPlain, id, now, effects_);
    EXPECT_EQ(take<StartWorker>(effects_).at(0).worker, id);
    return id;
  }
  ProcessId start_ready(Instant now) {
    const ProcessId id = start(now);
    EXPECT_TRUE(pool_.ready(id, now).value());
    return id;
  }
  ProcessId take_for(ProcessId owner) { return pool_.take(kPlain, owner).value().worker; }

  WorkerPool pool_{{.workers_max = 4, .keep_idle = 1, .start_timeout = 5s}};
  Effects effects_;
  uint32_t next_ = 1;
};

TEST_F(WorkerPoolTest, a_worker_is_handed_out_once_it_is_ready_each_time_under_a_new_epoch) {
  const ProcessId worker = start(0s);
  EXPECT_FALSE(pool_.take(kPlain, kOwner));
  EXPECT_EQ(pool_.starting_count(kPlain), 1);
  EXPECT_TRUE(pool_.ready(worker, 1s).value());
  EXPECT_EQ(pool_.starting_count(kPlain), 0);
  EXPECT_EQ(pool_.take(kPlain, kOwner).value().epoch, 1);
  EXPECT_FALSE(pool_.take(kPlain, kOwner));
  pool_.release(worker, 2s);
  EXPECT_EQ(pool_.take(kPlain, kOwner).value().epoch, 2);
}

TEST_F(WorkerPoolTest, a_worker_that_served_the_owner_before_is_preferred_else_the_last_used) {
  const ProcessId first = start_ready(0s);
  const ProcessId second = start_ready(0s);
  ASSERT_EQ(take_for(kOwner), second);
  ASSERT_EQ(take_for(kOther), first);
  pool_.release(second, 1s);
  pool_.release(first, 2s);
  EXPECT_EQ(take_for(kOwner), second);
  pool_.release(second, 3s);
  EXPECT_EQ(take_for(ProcessId{102}), second);
}

TEST_F(WorkerPoolTest, an_idle_worker_with_tasks_of_its_own_is_not_handed_out_to_itself) {
  const ProcessId owner = start_ready(0s);
  EXPECT_FALSE(pool_.take(kPlain, owner));
  const ProcessId other = start_ready(1s);
  EXPECT_EQ(take_for(owner), other);
  pool_.release(other, 2s);
  EXPECT_EQ(take_for(kOwner), other);
  EXPECT_EQ(take_for(kOwner), owner);
}

TEST_F(WorkerPoolTest, a_worker_of_another_job_is_never_handed_out) {
  start_ready(0s);
  pool_.add_job(JobId{2});
  EXPECT_FALSE(pool_.take(EnvironmentKey{JobId{2}, kJobEnvironment}, kOwner));
}

TEST_F(WorkerPoolTest, surplus_idle_workers_are_stopped_after_the_idle_timeout) {
  const ProcessId first = start_ready(0s);
  const ProcessId second = start_ready(500ms);
  EXPECT_EQ(pool_.next_deadline(600ms), 1s);
  pool_.tick(999ms, effects_);
  EXPECT_TRUE(effects_.empty());
  pool_.tick(1s, effects_);
  const StopWorker stop = take<StopWorker>(effects_).at(0);
  EXPECT_EQ(stop.worker, first);
  EXPECT_EQ(stop.reason, StopReason::kIdle);
  pool_.tick(10s, effects_);  // One is kept.
  EXPECT_EQ(take_for(kOwner), second);
  EXPECT_TRUE(pool_.exited(first, 10s, effects_).has_value());
  EXPECT_EQ(pool_.worker_count(), 1);
}

TEST_F(WorkerPoolTest, a_worker_that_owns_tasks_is_not_stopped_for_being_idle) {
  const ProcessId first = start_ready(0s);
  const ProcessId second = start_ready(0s);
  pool_.set_needed(first, true);
  pool_.tick(1s, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).at(0).worker, second);
}

TEST_F(WorkerPoolTest, a_worker_that_never_registers_is_killed_and_keeps_its_place_until_it_exits) {
  const ProcessId worker = start(0s);
  EXPECT_EQ(pool_.next_deadline(0s), 5s);
  pool_.tick(5s, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).at(0).reason, StopReason::kStartTimeout);
  EXPECT_EQ(pool_.worker_count(), 1);
  EXPECT_FALSE(pool_.ready(worker, 6s).value());  // Too late.
  EXPECT_FALSE(pool_.take(kPlain, kOwner));
  EXPECT_TRUE(pool_.exited(worker, 7s, effects_).has_value());
  EXPECT_EQ(pool_.worker_count(), 0);
}

TEST_F(WorkerPoolTest, failed_starts_back_off_and_are_reported_from_the_third_on) {
  Instant now = 0s;
  for (const Duration delay : {100ms, 200ms, 400ms, 800ms, 1600ms, 3200ms, 5000ms, 5000ms}) {
    const ProcessId worker = start(now);
    ASSERT_TRUE(pool_.exited(worker, now, effects_).has_value());
    const auto reports = take<StartFailed>(effects_);
    EXPECT_EQ(reports.size(), number(worker) >= 3 ? 1 : 0);
    if (!reports.empty()) {
      EXPECT_EQ(reports[0].failures, number(worker));
    }
    EXPECT_FALSE(pool_.can_start(kPlain, now + delay - 1ns));
    EXPECT_EQ(pool_.next_deadline(now), now + delay);
    now += delay;
    EXPECT_TRUE(pool_.can_start(kPlain, now));
  }
  start_ready(now);  // One that works ends the row of failures.
  const ProcessId worker = start(now);
  ASSERT_TRUE(pool_.exited(worker, now, effects_).has_value());
  EXPECT_TRUE(pool_.can_start(kPlain, now + 100ms));
}

TEST_F(WorkerPoolTest, a_worker_that_is_being_stopped_is_not_handed_out_again) {
  const ProcessId worker = start_ready(0s);
  ASSERT_EQ(take_for(kOwner), worker);
  pool_.stop(worker, StopReason::kOwnerGone, effects_);
  pool_.stop(worker, StopReason::kOwnerGone, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).size(), 1);
  pool_.release(worker, 1s);
  EXPECT_FALSE(pool_.take(kPlain, kOwner));
}

TEST_F(WorkerPoolTest, no_more_than_workers_max_processes_exist) {
  for (int count = 0; count < 4; ++count) start_ready(0s);
  EXPECT_FALSE(pool_.can_start(kPlain, 0s));
}

TEST_F(WorkerPoolTest, the_end_of_a_job_stops_its_workers_whatever_they_do) {
  start(0s);
  start_ready(0s);
  start_ready(0s);
  take_for(kOwner);
  pool_.end_job(kJob, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).size(), 3);
  EXPECT_FALSE(pool_.can_start(kPlain, 1s));
  for (uint32_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(pool_.exited(ProcessId{id}, 1s, effects_).has_value());
  }
  pool_.add_job(kJob);  // Nothing is left of it.
}

TEST_F(WorkerPoolTest, nonsense_is_refused) {
  EXPECT_EQ(pool_.ready(ProcessId{9}, 0s).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(pool_.exited(ProcessId{9}, 0s, effects_).error().code, ErrorCode::kNotFound);
  const ProcessId worker = start_ready(0s);
  EXPECT_EQ(pool_.ready(worker, 0s).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(WorkerPoolTest, a_worker_serves_its_own_environment_only) {
  constexpr EnvironmentKey kOtherOne{kJob, EnvironmentId{1}};
  const ProcessId plain = start_ready(0s);
  EXPECT_FALSE(pool_.take(kOtherOne, kOwner));
  const ProcessId special{next_++};
  pool_.start(kOtherOne, special, 1s, effects_);
  EXPECT_EQ(take<StartWorker>(effects_).at(0).environment, kOtherOne.id);
  EXPECT_EQ(pool_.starting_count(kPlain), 0);
  EXPECT_EQ(pool_.starting_count(kOtherOne), 1);
  EXPECT_TRUE(pool_.ready(special, 2s).value());
  EXPECT_EQ(take_for(kOwner), plain);
  EXPECT_FALSE(pool_.take(kPlain, kOwner));
  EXPECT_EQ(pool_.take(kOtherOne, kOwner).value().worker, special);
}

TEST_F(WorkerPoolTest, failed_starts_in_one_environment_hold_up_no_other) {
  constexpr EnvironmentKey kBroken{kJob, EnvironmentId{1}};
  const ProcessId broken{next_++};
  pool_.start(kBroken, broken, 0s, effects_);
  EXPECT_TRUE(pool_.exited(broken, 0s, effects_));
  take<StartWorker>(effects_);
  EXPECT_FALSE(pool_.can_start(kBroken, 0s));
  EXPECT_TRUE(pool_.can_start(kPlain, 0s));
  pool_.forget_failures(kBroken);
  EXPECT_TRUE(pool_.can_start(kBroken, 0s));
}

TEST_F(WorkerPoolTest, with_no_room_for_more_no_idle_worker_is_kept) {
  for (int i = 0; i < 3; ++i) start_ready(0s);
  pool_.tick(1s, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).size(), 2);
  start_ready(1s);
  pool_.tick(5s, effects_);
  EXPECT_EQ(take<StopWorker>(effects_).size(), 2);
}

}  // namespace
}  // namespace mobula::workers
