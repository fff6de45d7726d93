#include "core/actors/actor_registry.h"

#include <gtest/gtest.h>

namespace mobula::actors {
namespace {

constexpr ProcessId kCaller{1};
constexpr ProcessId kOther{2};
constexpr ProcessId kWorker{10};
constexpr ProcessId kNextWorker{11};
constexpr ObjectId kActor{NodeId{1}, kCaller, 1};
constexpr ObjectId kSecond{NodeId{1}, kCaller, 2};

template <typename T>
size_t count(const Effects& effects) {
  size_t found = 0;
  for (const Effect& effect : effects) found += std::holds_alternative<T>(effect) ? 1 : 0;
  return found;
}

template <typename T>
const T& only(const Effects& effects) {
  const T* found = nullptr;
  for (const Effect& effect : effects) {
    if (const T* one = std::get_if<T>(&effect)) found = one;
  }
  EXPECT_EQ(count<T>(effects), 1U);
  return *found;
}

ActorOptions restarting(int32_t restarts_max) {
  ActorOptions options;
  options.restarts_max = restarts_max;
  return options;
}

ActorOptions named(const std::string& name_space, const std::string& name) {
  ActorOptions options;
  options.name = name;
  options.name_space = name_space;
  return options;
}

ActorOptions of_job(JobId job) {
  ActorOptions options;
  options.job = job;
  return options;
}

class ActorRegistryTest : public testing::Test {
 protected:
  void make(ObjectId id, ActorOptions options, ProcessId worker) {
    ASSERT_TRUE(registry_.create(id, std::move(options), effects_));
    registry_.on_placed(id, worker);
    registry_.on_created(worker, effects_);
    registry_.check_invariants();
    effects_.clear();
  }
  void TearDown() override { registry_.check_invariants(); }

  ActorRegistry registry_{ActorRegistry::Options{}};
  Effects effects_;
};

TEST_F(ActorRegistryTest, a_caller_is_told_where_the_actor_is_once_it_is_made) {
  ASSERT_TRUE(registry_.create(kActor, {}, effects_));
  EXPECT_EQ(count<RequestWorker>(effects_), 1U);
  registry_.connect(kActor, kCaller, effects_);
  registry_.on_placed(kActor, kWorker);
  EXPECT_EQ(count<Introduce>(effects_), 0U);
  registry_.on_created(kWorker, effects_);
  EXPECT_EQ(only<Introduce>(effects_).worker, kWorker);
  EXPECT_EQ(count<Settle>(effects_), 1U);
  registry_.connect(kActor, kOther, effects_);
  EXPECT_EQ(count<Introduce>(effects_), 2U);
}

TEST_F(ActorRegistryTest, a_name_has_one_owner_until_that_is_dead) {
  make(kActor, named("s", "n"), kWorker);
  EXPECT_FALSE(registry_.create(kSecond, named("s", "n"), effects_));
  EXPECT_EQ(registry_.find_name("s", "n"), kActor);
  EXPECT_TRUE(registry_.find_name("t", "n").is_nil());
  registry_.kill(kActor, true, effects_);
  EXPECT_TRUE(registry_.find_name("s", "n").is_nil());
  EXPECT_TRUE(registry_.create(kSecond, named("s", "n"), effects_));
}

TEST_F(ActorRegistryTest, the_name_of_an_actor_without_handles_is_free_before_it_is_dead) {
  make(kActor, named("s", "n"), kWorker);
  registry_.on_unreachable(kActor, effects_);
  EXPECT_TRUE(registry_.find_name("s", "n").is_nil());
  ASSERT_TRUE(registry_.create(kSecond, named("s", "n"), effects_));
  registry_.on_worker_died(kWorker, "it exited", effects_);
  EXPECT_EQ(registry_.find_name("s", "n"), kSecond);
}

TEST_F(ActorRegistryTest, an_actor_is_found_by_its_id_while_somebody_has_a_handle) {
  make(kActor, {}, kWorker);
  EXPECT_EQ(registry_.find_id(actor_hex(kActor)), kActor);
  EXPECT_TRUE(registry_.find_id(actor_hex(kSecond)).is_nil());
  for (const char* nonsense : {"", "12", "zz000000000000000000000000000000"}) {
    EXPECT_TRUE(registry_.find_id(nonsense).is_nil());
  }
  registry_.on_unreachable(kActor, effects_);
  EXPECT_TRUE(registry_.find_id(actor_hex(kActor)).is_nil());
}

TEST_F(ActorRegistryTest, the_error_of_a_dead_actor_says_where_it_was) {
  ASSERT_TRUE(registry_.create(kActor, named("s", "n"), effects_));
  registry_.connect(kActor, kCaller, effects_);
  registry_.on_placed(kActor, kWorker, 4711);
  registry_.on_created(kWorker, effects_);
  registry_.on_worker_died(kWorker, "killed by SIGKILL", effects_);
  const std::string text = only<TellDead>(effects_).death->text;
  for (const char* part : {"pid: 4711", "name: n", "namespace: s", "killed by SIGKILL"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
}

TEST_F(ActorRegistryTest, an_actor_comes_back_as_often_as_allowed_and_then_is_dead) {
  make(kActor, restarting(1), kWorker);
  registry_.connect(kActor, kCaller, effects_);
  effects_.clear();
  registry_.on_worker_died(kWorker, "killed by SIGKILL", effects_);
  EXPECT_NE(only<TellRestarting>(effects_).text.find("SIGKILL"), std::string::npos);
  EXPECT_EQ(count<DismissWorker>(effects_), 0U);
  effects_.clear();
  registry_.on_placed(kActor, kNextWorker);
  registry_.on_created(kNextWorker, effects_);
  EXPECT_EQ(only<Introduce>(effects_).worker, kNextWorker);
  effects_.clear();
  registry_.on_worker_died(kNextWorker, "killed by SIGSEGV", effects_);
  EXPECT_NE(only<TellDead>(effects_).death->text.find("SIGSEGV"), std::string::npos);
  EXPECT_EQ(count<DismissWorker>(effects_), 1U);
  EXPECT_EQ(count<Ended>(effects_), 1U);
}

TEST_F(ActorRegistryTest, who_calls_a_dead_actor_learns_why) {
  make(kActor, {}, kWorker);
  registry_.on_worker_died(kWorker, "it exited with code 3", effects_);
  effects_.clear();
  registry_.connect(kActor, kCaller, effects_);
  EXPECT_NE(only<TellDead>(effects_).death->text.find("code 3"), std::string::npos);
}

TEST_F(ActorRegistryTest, an_error_in_the_constructor_is_the_end) {
  ASSERT_TRUE(registry_.create(kActor, restarting(-1), effects_));
  registry_.connect(kActor, kCaller, effects_);
  registry_.on_placed(kActor, kWorker);
  registry_.on_constructor_failed(kWorker, "ValueError", {}, effects_);
  EXPECT_TRUE(only<TellDead>(effects_).death->in_constructor);
  effects_.clear();
  registry_.on_worker_died(kWorker, "killed", effects_);  // Nobody's any more.
  EXPECT_TRUE(effects_.empty());
}

TEST_F(ActorRegistryTest, callers_of_an_actor_that_was_never_made_wait_while_its_workers_die) {
  ASSERT_TRUE(registry_.create(kActor, restarting(2), effects_));
  registry_.connect(kActor, kCaller, effects_);
  for (const ProcessId worker : {kWorker, kNextWorker}) {
    registry_.on_placed(kActor, worker);
    registry_.on_worker_died(worker, "it exited with code 1", effects_);
  }
  registry_.connect(kActor, kOther, effects_);
  EXPECT_EQ(count<TellRestarting>(effects_) + count<TellDead>(effects_), 0U);
  registry_.on_placed(kActor, ProcessId{12});
  registry_.on_created(ProcessId{12}, effects_);
  EXPECT_EQ(count<Introduce>(effects_), 2U);
}

TEST_F(ActorRegistryTest, the_last_death_in_a_constructor_is_the_end) {
  ASSERT_TRUE(registry_.create(kActor, restarting(1), effects_));
  registry_.connect(kActor, kCaller, effects_);
  registry_.on_placed(kActor, kWorker);
  registry_.on_worker_died(kWorker, "it exited with code 1", effects_);
  registry_.on_placed(kActor, kNextWorker);
  registry_.on_worker_died(kNextWorker, "it exited with code 1", effects_);
  EXPECT_NE(only<TellDead>(effects_).death->text.find("code 1"), std::string::npos);
}

TEST_F(ActorRegistryTest, a_second_instance_that_dies_in_its_constructor_is_no_news_of_a_first) {
  make(kActor, restarting(-1), kWorker);
  registry_.connect(kActor, kCaller, effects_);
  registry_.on_worker_died(kWorker, "it exited", effects_);
  registry_.on_placed(kActor, kNextWorker);
  registry_.on_worker_died(kNextWorker, "it exited", effects_);
  EXPECT_EQ(count<TellRestarting>(effects_), 2U);
  registry_.connect(kActor, kOther, effects_);
  EXPECT_EQ(count<TellRestarting>(effects_), 3U);
}

TEST_F(ActorRegistryTest, one_that_leaves_by_itself_does_not_come_back) {
  make(kActor, restarting(-1), kWorker);
  registry_.on_exiting(kWorker, "it left");
  registry_.on_worker_died(kWorker, "it exited with code 0", effects_);
  EXPECT_EQ(count<Ended>(effects_), 1U);
}

TEST_F(ActorRegistryTest, a_kill_that_allows_restarts_uses_one_up) {
  make(kActor, restarting(1), kWorker);
  registry_.kill(kActor, false, effects_);
  EXPECT_EQ(only<KillWorker>(effects_).worker, kWorker);
  effects_.clear();
  registry_.on_worker_died(kWorker, "killed by SIGKILL", effects_);
  EXPECT_EQ(registry_.find(kActor)->phase, Phase::kPlacing);
  EXPECT_EQ(registry_.find(kActor)->restarts, 1U);
}

TEST_F(ActorRegistryTest, an_actor_without_handles_is_asked_to_exit_and_forgotten) {
  make(kActor, restarting(-1), kWorker);
  registry_.on_unreachable(kActor, effects_);
  EXPECT_EQ(only<AskToExit>(effects_).worker, kWorker);
  registry_.on_worker_died(kWorker, "it exited with code 0", effects_);
  EXPECT_EQ(count<Ended>(effects_), 1U);
  EXPECT_TRUE(registry_.all().empty());
}

TEST_F(ActorRegistryTest, one_whose_handles_go_while_it_is_made_ends_when_it_is) {
  ASSERT_TRUE(registry_.create(kActor, {}, effects_));
  registry_.on_placed(kActor, kWorker);
  registry_.on_unreachable(kActor, effects_);
  EXPECT_EQ(count<AskToExit>(effects_), 0U);
  registry_.on_created(kWorker, effects_);
  EXPECT_EQ(count<AskToExit>(effects_), 1U);
}

TEST_F(ActorRegistryTest, who_comes_too_late_is_told_so) {
  registry_.connect(kActor, kCaller, effects_);
  EXPECT_EQ(count<TellDead>(effects_), 1U);
}

TEST_F(ActorRegistryTest, the_end_of_a_job_ends_its_actors) {
  make(kActor, of_job(JobId{1}), kWorker);
  make(kSecond, of_job(JobId{2}), kNextWorker);
  registry_.on_job_ended(JobId{1}, "its job has ended", effects_);
  EXPECT_EQ(count<Ended>(effects_), 1U);
  EXPECT_EQ(registry_.find(kActor)->phase, Phase::kDead);
  EXPECT_EQ(registry_.find(kSecond)->phase, Phase::kAlive);
}

}  // namespace
}  // namespace mobula::actors
