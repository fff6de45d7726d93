#include "core/tasks/time_limit.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

namespace mobula::tasks {
namespace {

using namespace std::chrono_literals;
using Action = TimeLimit::Action;

TEST(TimeLimit, a_task_without_a_limit_is_left_alone) {
  TimeLimit limit(1s);
  limit.start(0s, 5s);
  EXPECT_FALSE(limit.next_deadline());
  EXPECT_EQ(limit.advance(1000s), Action::kNone);
  EXPECT_FALSE(limit.is_exceeded());
}

TEST(TimeLimit, a_task_is_interrupted_at_its_limit_and_killed_after_the_grace) {
  TimeLimit limit(1s);
  limit.start(10s, 5s);
  EXPECT_EQ(limit.next_deadline(), 15s);
  EXPECT_EQ(limit.advance(15s - 1ns), Action::kNone);
  EXPECT_FALSE(limit.is_exceeded());
  EXPECT_EQ(limit.advance(15s), Action::kInterrupt);
  EXPECT_TRUE(limit.is_exceeded());
  EXPECT_EQ(limit.advance(15s), Action::kNone);
  EXPECT_EQ(limit.next_deadline(), 16s);
  EXPECT_EQ(limit.advance(16s), Action::kKill);
  EXPECT_FALSE(limit.next_deadline());
  EXPECT_EQ(limit.advance(100s), Action::kNone);
}

TEST(TimeLimit, the_grace_begins_when_the_task_was_interrupted_however_late_that_was) {
  TimeLimit limit(1s);
  limit.start(10s, 0s);
  EXPECT_EQ(limit.advance(70s), Action::kInterrupt);
  EXPECT_EQ(limit.next_deadline(), 71s);
}

TEST(TimeLimit, the_next_task_begins_anew) {
  TimeLimit limit(1s);
  limit.start(10s, 0s);
  limit.advance(10s);
  limit.finish();
  EXPECT_FALSE(limit.is_exceeded());
  EXPECT_EQ(limit.advance(100s), Action::kNone);
  limit.start(10s, 100s);
  EXPECT_EQ(limit.next_deadline(), 110s);
}

TEST(TimeLimit, random_histories_never_end_a_task_before_its_time) {
  const char* text = std::getenv("MOBULA_SEED");
  const uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
  SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto below = [&random](uint64_t bound) { return static_cast<int64_t>(random() % bound); };
  TimeLimit time_limit(500ms);
  Instant now{0};
  Instant started{0};
  Duration limit{0};
  Instant interrupted{-1};
  bool killed = false;
  for (int step = 0; step < 100'000; ++step) {
    now += Duration(below(200'000'000));
    switch (below(4)) {
      case 0:
        started = now;
        limit = std::chrono::milliseconds(below(3) == 0 ? 0 : below(1000));
        interrupted = Instant{-1};
        killed = false;
        time_limit.start(limit, now);
        break;
      case 1:
        time_limit.finish();
        limit = Duration(0);
        interrupted = Instant{-1};
        break;
      default:
        switch (time_limit.advance(now)) {
          case Action::kNone:
            break;
          case Action::kInterrupt:
            ASSERT_GT(limit, Duration(0));
            ASSERT_GE(now, started + limit);
            ASSERT_LT(interrupted, Instant{0});
            interrupted = now;
            break;
          case Action::kKill:
            ASSERT_GE(interrupted, Instant{0});
            ASSERT_GE(now, interrupted + 500ms);
            ASSERT_FALSE(killed);
            killed = true;
        }
        // Whatever is due has been done.
        const auto next = time_limit.next_deadline();
        ASSERT_TRUE(!next || *next >= now);
    }
    ASSERT_EQ(time_limit.is_exceeded(), interrupted >= Instant{0});
    time_limit.check_invariants();
  }
}

}  // namespace
}  // namespace mobula::tasks
