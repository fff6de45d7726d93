#include "core/scheduler/caps.h"

#include <gtest/gtest.h>

namespace mobula::scheduler {
namespace {

using namespace std::chrono_literals;

ResourceSet cpus(ResourceAmount amount) {
  ResourceSet set;
  set.set(kCpu, amount);
  return set;
}

class CapsTest : public testing::Test {
 protected:
  // One look at the demand at `now`: the class is held up by its cap, if it is.
  void look(ClassId id, Instant now) {
    caps_.advance(now);
    if (!caps_.allows(id)) caps_.held_up(id, now);
    caps_.check_invariants();
  }

  Caps caps_{{}, 2 * kResourceUnit};
};

TEST_F(CapsTest, a_class_may_have_what_the_cpus_hold) {
  EXPECT_EQ(caps_.limit(caps_.join(JobId{1}, cpus(kResourceUnit), 1)), 2);
  EXPECT_EQ(caps_.limit(caps_.join(JobId{1}, cpus(kResourceUnit / 2), 1)), 4);
  EXPECT_EQ(caps_.limit(caps_.join(JobId{1}, cpus(9 * kResourceUnit), 1)), 1);
  EXPECT_EQ(caps_.limit(caps_.join(JobId{1}, {}, 1)), 16);
  Caps large({}, 8 * kResourceUnit);
  EXPECT_EQ(large.limit(large.join(JobId{1}, {}, 1)), 32);
}

TEST_F(CapsTest, job_resources_and_depth_make_the_class) {
  const ClassId first = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  EXPECT_EQ(caps_.join(JobId{1}, cpus(kResourceUnit), 1), first);
  EXPECT_NE(caps_.join(JobId{1}, cpus(kResourceUnit), 2), first);
  EXPECT_NE(caps_.join(JobId{2}, cpus(kResourceUnit), 1), first);
  caps_.leave(first);
  caps_.leave(first);
  caps_.check_invariants();
  EXPECT_NE(caps_.join(JobId{1}, cpus(kResourceUnit), 1), first);  // It was forgotten.
}

TEST_F(CapsTest, a_cap_that_holds_up_rises_after_10_then_20_then_40_ms) {
  const ClassId id = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  Instant now = 1s;
  for (int lease = 0; lease < 2; ++lease) caps_.lease_begins(id);
  for (const Duration delay : {10ms, 20ms, 40ms}) {
    look(id, now);
    EXPECT_FALSE(caps_.allows(id));
    EXPECT_EQ(caps_.next_deadline(), now + delay);
    look(id, now + delay - 1ns);
    EXPECT_FALSE(caps_.allows(id));
    now += delay;
    look(id, now);
    ASSERT_TRUE(caps_.allows(id));
    caps_.lease_begins(id);  // One more, no more.
    EXPECT_FALSE(caps_.allows(id));
  }
}

TEST_F(CapsTest, a_returned_lease_brings_cap_and_delay_back) {
  const ClassId id = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  for (int lease = 0; lease < 2; ++lease) caps_.lease_begins(id);
  look(id, 1s);
  look(id, 1s + 10ms);
  caps_.lease_begins(id);
  caps_.lease_ends(id);
  EXPECT_EQ(caps_.limit(id), 2);
  look(id, 2s);
  EXPECT_EQ(caps_.next_deadline(), 2s + 10ms);
}

TEST_F(CapsTest, short_moments_far_apart_do_not_add_up) {
  const ClassId id = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  for (int lease = 0; lease < 2; ++lease) caps_.lease_begins(id);
  Instant now = 1s;
  for (int moment = 0; moment < 1000; ++moment) {
    look(id, now);
    caps_.advance(now += 1ms);   // Held up for 1 ms,
    caps_.advance(now += 20ms);  // then not for 20 ms.
  }
  EXPECT_EQ(caps_.limit(id), 2);
}

TEST_F(CapsTest, moments_that_make_up_a_good_part_of_the_time_do_add_up) {
  const ClassId id = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  for (int lease = 0; lease < 2; ++lease) caps_.lease_begins(id);
  Instant now = 1s;
  for (int moment = 0; moment < 20; ++moment) {
    look(id, now);
    caps_.advance(now += 1ms);
    caps_.advance(now += 2ms);
  }
  EXPECT_EQ(caps_.limit(id), 3);
}

TEST_F(CapsTest, nothing_is_due_when_nothing_is_held_up) {
  const ClassId id = caps_.join(JobId{1}, cpus(kResourceUnit), 1);
  caps_.lease_begins(id);
  look(id, 1s);
  EXPECT_EQ(caps_.next_deadline(), std::nullopt);
}

}  // namespace
}  // namespace mobula::scheduler
