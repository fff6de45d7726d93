#include "core/tasks/dispatcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>

namespace mobula::tasks {
namespace {

using namespace std::chrono_literals;

struct TestTask : TaskNode {
  int number = 0;
};

// One owner with a dispatcher; the test plays daemon and workers.
class Owner {
 public:
  explicit Owner(Dispatcher::Options options = {}) : dispatcher_(options) {}

  TestTask& submit(FunctionState& function, uint32_t shape = 1) {
    auto task = std::make_unique<TestTask>();
    task->function = &function;
    task->shape = shape;
    task->number = static_cast<int>(tasks_.size());
    tasks_.push_back(std::move(task));
    dispatcher_.submit(*tasks_.back(), now, effects);
    return *tasks_.back();
  }
  void grant(uint64_t lease, uint32_t shape = 1) {
    dispatcher_.on_lease_granted(LeaseId{lease}, shape, ChannelId{lease}, 1, now);
    settle();
  }
  void settle() { dispatcher_.settle(now, effects); }
  void finish(TaskNode& task, Duration run_time) {
    dispatcher_.on_result(task, run_time, now);
    settle();
  }
  // Takes the pushes out of the effects: (task number, lease).
  std::vector<std::pair<int, uint64_t>> pushes() {
    std::vector<std::pair<int, uint64_t>> taken;
    for (const Push& push : effects.push) {
      taken.emplace_back(static_cast<TestTask*>(push.task)->number, number(push.lease->id));
    }
    effects.push.clear();
    return taken;
  }
  uint32_t target() {
    const uint32_t last = effects.target.empty() ? 0 : effects.target.back().target;
    effects.target.clear();
    return last;
  }
  void expect_no_more() {
    EXPECT_TRUE(effects.empty());
    dispatcher_.check_invariants();
  }
  Dispatcher& dispatcher() { return dispatcher_; }

  Instant now = 1s;
  Effects effects;

 private:
  Dispatcher dispatcher_;
  std::vector<std::unique_ptr<TestTask>> tasks_;
};

using Pushes = std::vector<std::pair<int, uint64_t>>;

FunctionState measured(Duration run_time) {
  FunctionState function;
  function.measured = true;
  function.estimate = run_time;
  return function;
}

TEST(Dispatcher, the_first_task_asks_for_a_lease_and_goes_out_when_it_comes) {
  Owner owner;
  FunctionState function;
  owner.submit(function);
  EXPECT_EQ(owner.target(), 1U);
  owner.expect_no_more();
  owner.grant(7);
  EXPECT_EQ(owner.pushes(), (Pushes{{0, 7}}));
  owner.expect_no_more();
}

TEST(Dispatcher, a_function_of_unknown_run_time_gets_one_task_a_worker) {
  Owner owner;
  FunctionState function;
  for (int i = 0; i < 4; ++i) owner.submit(function);
  owner.grant(1);
  EXPECT_EQ(owner.pushes(), (Pushes{{0, 1}}));
  EXPECT_EQ(owner.target(), 4U);
  owner.expect_no_more();
}

TEST(Dispatcher, short_tasks_are_pipelined_up_to_the_load_of_a_lease) {
  Owner owner({.load_per_lease = 2ms, .in_flight_max = 100});
  FunctionState function = measured(500us);
  for (int i = 0; i < 10; ++i) owner.submit(function);
  owner.grant(1);
  EXPECT_EQ(owner.pushes().size(), 4U);
}

TEST(Dispatcher, in_flight_has_a_bound_however_short_the_tasks_are) {
  Owner owner({.in_flight_max = 5});
  FunctionState function = measured(1ns);
  for (int i = 0; i < 10; ++i) owner.submit(function);
  owner.grant(1);
  EXPECT_EQ(owner.pushes().size(), 5U);
}

TEST(Dispatcher, functions_of_one_shape_take_turns) {
  Owner owner;
  FunctionState slow = measured(10ms);
  FunctionState quick = measured(10ms);
  for (int i = 0; i < 3; ++i) owner.submit(slow);
  owner.submit(quick);  // Number 3.
  owner.grant(1);
  owner.grant(2);
  EXPECT_EQ(owner.pushes(), (Pushes{{0, 1}, {3, 2}}));
}

TEST(Dispatcher, an_idle_worker_takes_over_half_of_what_another_has_not_started) {
  Owner owner;
  FunctionState function = measured(500us);
  std::vector<TestTask*> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(&owner.submit(function));
  owner.grant(1);
  EXPECT_EQ(owner.pushes().size(), 4U);
  owner.effects.clear();
  owner.grant(2);
  EXPECT_EQ(owner.effects.revoke, (std::vector<TaskNode*>{tasks[3], tasks[2]}));
  owner.effects.revoke.clear();
  owner.dispatcher().on_revoked(*tasks[3]);
  owner.dispatcher().on_revoked(*tasks[2]);
  owner.settle();
  EXPECT_EQ(owner.pushes(), (Pushes{{2, 2}, {3, 2}}));
}

TEST(Dispatcher, what_is_queued_behind_an_unexpectedly_slow_task_is_moved) {
  Owner owner;
  FunctionState function = measured(10us);
  std::vector<TestTask*> tasks;
  for (int i = 0; i < 3; ++i) tasks.push_back(&owner.submit(function));
  owner.grant(1);
  owner.grant(2);
  owner.effects.clear();
  EXPECT_EQ(owner.dispatcher().next_deadline(), owner.now + 2ms);
  owner.now += 2ms;
  owner.settle();
  EXPECT_EQ(owner.effects.revoke, (std::vector<TaskNode*>{tasks[2], tasks[1]}));
}

TEST(Dispatcher, an_overrun_without_an_idle_worker_asks_for_another_lease) {
  Owner owner;
  FunctionState function = measured(10us);
  for (int i = 0; i < 3; ++i) owner.submit(function);
  owner.grant(1);
  owner.effects.clear();
  owner.now += 2ms;
  owner.settle();
  EXPECT_EQ(owner.target(), 2U);
  EXPECT_TRUE(owner.effects.revoke.empty());
}

TEST(Dispatcher, a_limited_shape_never_wants_more_leases_than_its_limit) {
  FunctionState slow = measured(1s);
  Owner owner;
  owner.dispatcher().limit_leases(1, 2);
  for (int i = 0; i < 5; ++i) owner.submit(slow);
  owner.submit(slow, 2);
  owner.settle();
  std::map<uint32_t, uint32_t> targets;
  for (const TargetChange& change : owner.effects.target) targets[change.shape] = change.target;
  EXPECT_EQ(targets, (std::map<uint32_t, uint32_t>{{1, 2}, {2, 1}}));
  owner.grant(7);
  owner.dispatcher().on_blocked(ChannelId{7}, true);  // It is under way all the same.
  owner.settle();
  for (const TargetChange& change : owner.effects.target) {
    EXPECT_LE(change.target, change.shape == 1 ? 2U : 1U);
  }
}

TEST(Dispatcher, tasks_of_a_limited_shape_start_in_the_order_of_submission_whatever_they_call) {
  FunctionState one = measured(10us);
  FunctionState other = measured(10us);
  Owner owner;
  owner.dispatcher().limit_leases(1, 1);
  for (FunctionState* function : {&one, &other, &other, &one, &one, &other}) {
    owner.submit(*function);
  }
  owner.grant(1);
  EXPECT_EQ(owner.pushes(), (Pushes{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}));
  owner.effects.clear();
  owner.dispatcher().on_blocked(ChannelId{1}, true);
  owner.settle();
  for (TaskNode* task : std::vector(owner.effects.revoke)) {
    if (static_cast<TestTask*>(task)->number != 0) owner.dispatcher().on_revoked(*task);
  }
  owner.effects.clear();
  owner.dispatcher().on_blocked(ChannelId{1}, false);
  owner.settle();
  EXPECT_EQ(owner.pushes(), (Pushes{{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}));
}

TEST(Dispatcher, a_blocked_worker_gets_nothing_and_loses_what_it_has_not_started) {
  Owner owner;
  FunctionState function = measured(100us);
  std::vector<TestTask*> tasks;
  for (int i = 0; i < 3; ++i) tasks.push_back(&owner.submit(function));
  owner.grant(1);
  owner.effects.clear();
  owner.dispatcher().on_blocked(ChannelId{1}, true);
  owner.settle();
  EXPECT_EQ(owner.effects.revoke, (std::vector<TaskNode*>{tasks[2], tasks[1], tasks[0]}));
  owner.dispatcher().on_revoked(*tasks[2]);  // tasks[0] has started: its claim was lost.
  owner.dispatcher().on_revoked(*tasks[1]);
  owner.effects.clear();
  owner.settle();
  EXPECT_TRUE(owner.pushes().empty());
  EXPECT_EQ(owner.target(), 2U);  // The blocked one and one for the two tasks.
}

TEST(Dispatcher, an_idle_lease_is_kept_a_moment_and_then_given_back) {
  Owner owner({.idle_lease_kept = 100ms});
  FunctionState function = measured(10us);
  TestTask& task = owner.submit(function);
  owner.grant(1);
  owner.finish(task, 10us);
  owner.effects.clear();
  owner.now += 99ms;
  owner.settle();
  owner.expect_no_more();
  EXPECT_EQ(owner.dispatcher().next_deadline(), owner.now + 1ms);
  owner.now += 1ms;
  owner.settle();
  EXPECT_EQ(owner.target(), 0U);
  EXPECT_EQ(owner.effects.give_back, (std::vector<LeaseId>{LeaseId{1}}));
  EXPECT_EQ(owner.dispatcher().next_deadline(), std::nullopt);
}

TEST(Dispatcher, a_reclaimed_lease_goes_back_as_soon_as_it_is_empty_and_stays_wanted) {
  Owner owner;
  FunctionState function = measured(10ms);
  TestTask& first = owner.submit(function);
  owner.submit(function);
  owner.grant(1);
  owner.effects.clear();
  owner.dispatcher().on_lease_reclaim(LeaseId{1});
  owner.settle();
  owner.expect_no_more();
  owner.finish(first, 10ms);
  EXPECT_EQ(owner.effects.give_back, (std::vector<LeaseId>{LeaseId{1}}));
  EXPECT_TRUE(owner.pushes().empty());
  owner.effects.clear();
  owner.grant(2);
  EXPECT_EQ(owner.pushes(), (Pushes{{1, 2}}));
}

TEST(Dispatcher, a_full_ring_stalls_its_lease_until_it_drains) {
  Owner owner;
  FunctionState function = measured(10us);
  TestTask& task = owner.submit(function);
  owner.grant(1);
  owner.effects.clear();
  owner.dispatcher().on_push_failed(task);
  owner.settle();
  EXPECT_TRUE(owner.pushes().empty());
  owner.dispatcher().on_drained(ChannelId{1});
  owner.settle();
  EXPECT_EQ(owner.pushes(), (Pushes{{0, 1}}));
}

TEST(Dispatcher, a_dead_workers_unstarted_tasks_run_elsewhere) {
  Owner owner;
  FunctionState function = measured(10us);
  TestTask& started = owner.submit(function);
  TestTask& waiting = owner.submit(function);
  owner.grant(1);
  owner.effects.clear();
  owner.dispatcher().on_lost(started);
  owner.dispatcher().on_revoked(waiting);
  owner.dispatcher().on_channel_gone(ChannelId{1});
  owner.settle();
  EXPECT_TRUE(owner.effects.target.empty());  // The daemon knows that one lease is wanted.
  owner.grant(2);
  EXPECT_EQ(owner.pushes(), (Pushes{{1, 2}}));
}

TEST(Dispatcher, a_dead_workers_lease_is_not_wanted_again_without_tasks) {
  Owner owner;
  FunctionState function;
  TestTask& only = owner.submit(function);
  owner.grant(1);
  owner.effects.clear();
  owner.dispatcher().on_lost(only);
  owner.dispatcher().on_channel_gone(ChannelId{1});
  owner.settle();
  ASSERT_EQ(owner.effects.target.size(), 1U);
  EXPECT_EQ(owner.effects.target[0].target, 0U);
}

TEST(Dispatcher, demand_that_has_become_pointless_is_withdrawn) {
  Owner owner;
  FunctionState function;
  std::vector<TestTask*> tasks;
  for (int i = 0; i < 8; ++i) tasks.push_back(&owner.submit(function));
  owner.settle();
  EXPECT_EQ(owner.target(), 8U);
  owner.grant(1);
  owner.effects.clear();
  owner.finish(*tasks[0], 1us);  // They turn out to be tiny: one worker is plenty.
  EXPECT_EQ(owner.target(), 1U);
  EXPECT_EQ(owner.pushes().size(), 7U);
}

// Plays daemon and workers from one seed: leases come and go, workers block and die, results come in
// order, claims race. Every task must end exactly once.
class History {
 public:
  explicit History(uint64_t seed)
      : random_(seed), dispatcher_({.load_per_lease = 2ms, .in_flight_max = 6}) {
    for (auto& function : functions_) function = std::make_unique<FunctionState>();
    dispatcher_.limit_leases(2, kLimitOfShape2);
  }

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      now_ += std::chrono::microseconds(random_() % 900);
      this->step();
      dispatcher_.settle(now_, effects_);
      carry_out();
      dispatcher_.check_invariants();
    }
    while (finished_ < tasks_.size()) {  // No new tasks, no more accidents: everything ends.
      now_ += 1ms;
      if (workers_.empty()) grant();
      for (auto& [lease, worker] : workers_) worker.blocked = false;
      for (const auto& [lease, worker] : workers_) {
        dispatcher_.on_blocked(ChannelId{lease}, false);
        dispatcher_.on_drained(ChannelId{lease});
      }
      std::vector<uint64_t> leases;
      for (const auto& [lease, worker] : workers_) leases.push_back(lease);
      for (const uint64_t lease : leases) work(lease);
      dispatcher_.settle(now_, effects_);
      carry_out();
      dispatcher_.check_invariants();
      ASSERT_LT(now_, Instant(std::chrono::hours(1))) << "a task was lost";
    }
    EXPECT_EQ(dispatcher_.queued() + dispatcher_.in_flight(), 0U);
    expect_nothing_wanted();
  }

 private:
  static constexpr uint32_t kLimitOfShape2 = 2;

  struct Worker {
    std::deque<TestTask*> ring;
    TestTask* running = nullptr;
    bool blocked = false;
  };

  void step() {
    const uint64_t event = random_() % 16;
    if (event < 6) {
      submit();
    } else if (event == 6) {
      grant();
    } else if (workers_.empty()) {
      return;
    } else {
      auto picked = std::next(workers_.begin(), static_cast<long>(random_() % workers_.size()));
      const uint64_t lease = picked->first;
      if (event < 12) {
        work(lease);
      } else if (event == 12) {
        picked->second.blocked = !picked->second.blocked;
        dispatcher_.on_blocked(ChannelId{lease}, picked->second.blocked);
      } else if (event == 13) {
        dispatcher_.on_lease_reclaim(LeaseId{lease});
      } else if (event == 14) {
        die(lease);
      } else {
        dispatcher_.on_drained(ChannelId{lease});
      }
    }
  }
  // With time all leases go back, and none is wanted: a daemon that still owes some would grant them
  // for nothing, over and over.
  void expect_nothing_wanted() {
    for (int i = 0; i < 100; ++i) {
      now_ += 200ms;
      for (const uint32_t shape : {1U, 2U}) {
        if (targets_[shape] > held_[shape] && workers_.size() < 4) grant_shape(shape);
      }
      for (auto& [lease, worker] : workers_) {
        if (std::exchange(worker.blocked, false)) {
          dispatcher_.on_blocked(ChannelId{lease}, false);
        }
        dispatcher_.on_drained(ChannelId{lease});
      }
      dispatcher_.settle(now_, effects_);
      carry_out();
    }
    EXPECT_TRUE(workers_.empty());
    EXPECT_EQ(targets_[1], 0U);
    EXPECT_EQ(targets_[2], 0U);
  }
  void submit() {
    auto task = std::make_unique<TestTask>();
    task->function = functions_[random_() % 3].get();
    task->shape = 1 + random_() % 2;
    tasks_.push_back(std::move(task));
    dispatcher_.submit(*tasks_.back(), now_, effects_);
    carry_out();
  }
  void grant() {
    const uint32_t shape = 1 + random_() % 2;
    if (workers_.size() >= 4 || targets_[shape] <= held_[shape]) {
      for (const uint32_t other : {1U, 2U}) {  // Someone's turn, else nothing is owed.
        if (targets_[other] > held_[other] && workers_.size() < 4) return grant_shape(other);
      }
      return;
    }
    grant_shape(shape);
  }
  void grant_shape(uint32_t shape) {
    const uint64_t lease = next_lease_++;
    workers_[lease] = {};
    shape_of_[lease] = shape;
    ++held_[shape];
    dispatcher_.on_lease_granted(LeaseId{lease}, shape, ChannelId{lease}, 1, now_);
    dispatcher_.settle(now_, effects_);
    carry_out();
  }
  // The worker starts its next task or finishes the one it runs.
  void work(uint64_t lease) {
    const auto found = workers_.find(lease);
    if (found == workers_.end()) return;  // Given back since the caller looked.
    Worker& worker = found->second;
    if (worker.running == nullptr) {
      if (worker.ring.empty() || worker.blocked) return;
      worker.running = worker.ring.front();
      worker.ring.pop_front();
      return;
    }
    if (worker.blocked) return;
    TestTask* done = std::exchange(worker.running, nullptr);
    dispatcher_.on_result(*done, std::chrono::microseconds(random_() % 3000), now_);
    end(*done);
    dispatcher_.settle(now_, effects_);
    carry_out();
  }
  void die(uint64_t lease) {
    Worker worker = std::move(workers_.at(lease));
    workers_.erase(lease);
    --held_[shape_of_[lease]];
    if (worker.running != nullptr) {
      dispatcher_.on_lost(*worker.running);
      end(*worker.running);
    }
    for (TestTask* task : worker.ring) dispatcher_.on_revoked(*task);
    dispatcher_.on_channel_gone(ChannelId{lease});
  }
  void end(TestTask& task) {
    ASSERT_TRUE(ended_.insert(&task).second) << "a task ended twice";
    ++finished_;
  }
  void carry_out() {
    while (!effects_.empty()) {
      Effects now;
      std::swap(now, effects_);
      bool revoked = false;
      for (TaskNode* node : now.revoke) {
        auto* task = static_cast<TestTask*>(node);
        if (task->state != TaskState::kInFlight) continue;
        Worker& worker = workers_.at(number(task->lease->id));
        if (worker.running == task) continue;  // The worker won the claim.
        std::erase(worker.ring, task);
        dispatcher_.on_revoked(*task);
        revoked = true;
      }
      for (const TargetChange& change : now.target) {
        ASSERT_TRUE(change.shape != 2 || change.target <= kLimitOfShape2);
        targets_[change.shape] = change.target;
      }
      for (const LeaseId lease : now.give_back) {
        const Worker& worker = workers_.at(number(lease));
        ASSERT_TRUE(worker.ring.empty() && worker.running == nullptr);
        workers_.erase(number(lease));
        --held_[shape_of_[number(lease)]];
      }
      for (const Push& push : now.push) {
        auto* task = static_cast<TestTask*>(push.task);
        Worker& worker = workers_.at(number(push.lease->id));
        ASSERT_FALSE(ended_.contains(task));
        if (random_() % 20 == 0) {
          dispatcher_.on_push_failed(*task);
        } else {
          worker.ring.push_back(task);
        }
      }
      if (revoked) dispatcher_.settle(now_, effects_);
    }
  }

  std::mt19937_64 random_;
  Dispatcher dispatcher_;
  Effects effects_;
  Instant now_ = 1s;
  std::array<std::unique_ptr<FunctionState>, 3> functions_;
  std::vector<std::unique_ptr<TestTask>> tasks_;
  std::set<TestTask*> ended_;
  size_t finished_ = 0;
  std::map<uint64_t, Worker> workers_;
  std::map<uint64_t, uint32_t> shape_of_;
  std::map<uint32_t, uint32_t> targets_;
  std::map<uint32_t, uint32_t> held_;
  uint64_t next_lease_ = 1;
};

TEST(DispatcherRandom, every_task_ends_once_whatever_workers_do) {
  const char* fixed = std::getenv("MOBULA_SEED");
  const char* seconds = std::getenv("MOBULA_RANDOM_SECONDS");
  const auto until = std::chrono::steady_clock::now() +
                     std::chrono::seconds(seconds != nullptr ? std::atoi(seconds) : 0);
  uint64_t seed = seconds != nullptr ? std::random_device{}() : 1;
  const uint64_t last = seed + 300;
  if (fixed != nullptr) seed = std::strtoull(fixed, nullptr, 10);
  do {
    SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
    History(seed).run(400);
    if (testing::Test::HasFatalFailure()) return;
    ++seed;
  } while (fixed == nullptr &&
           (seconds != nullptr ? std::chrono::steady_clock::now() < until : seed < last));
}

}  // namespace
}  // namespace mobula::tasks
