#include "core/memory/memory_monitor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace mobula::memory {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kGiB = 1ULL << 30;

Use worker(uint32_t id, uint64_t bytes, Instant since, uint64_t declared = 0) {
  return {.process = ProcessId{id},
          .pid = static_cast<int>(1000 + id),
          .what = "worker",
          .bytes = bytes,
          .declared = declared,
          .running = true,
          .retriable = true,
          .since = since};
}

class Monitor : public testing::Test {
 protected:
  bool figures(double used, double stalled = 0) {
    return monitor.on_figures({.used = static_cast<uint64_t>(used * kGiB),
                               .limit = 16 * kGiB,
                               .stalled = stalled,
                               .limit_name = "of the machine"},
                              now);
  }
  ProcessId chosen(const std::vector<Use>& uses) {
    const auto kill = monitor.choose(uses, now);
    return kill ? kill->process : kDaemonProcess;
  }

  MemoryMonitor monitor{{}};
  Instant now{1s};
};

TEST_F(Monitor, below_the_threshold_nothing_happens) {
  EXPECT_FALSE(figures(15.1));
  EXPECT_TRUE(figures(15.3));
}

TEST_F(Monitor, near_the_threshold_what_is_only_kept_goes_first) {
  EXPECT_FALSE(monitor.wants_reclaim(now));  // Nothing is known yet.
  EXPECT_FALSE(figures(14.7));
  EXPECT_FALSE(monitor.wants_reclaim(now));
  EXPECT_FALSE(figures(14.8));  // 97.4 % of the threshold.
  EXPECT_TRUE(monitor.wants_reclaim(now));
  now += 900ms;
  EXPECT_TRUE(figures(15.5));
  EXPECT_FALSE(monitor.wants_reclaim(now));  // It takes a moment to come back.
  now += 100ms;
  EXPECT_TRUE(monitor.wants_reclaim(now));
  EXPECT_FALSE(figures(9));
  now += 5s;
  EXPECT_FALSE(monitor.wants_reclaim(now));
}

// Figures of a machine with 16 GiB on which four tasks took 1 GiB a second each: (seconds, GiB used,
// percent stalled), as /proc/meminfo and /proc/pressure/memory gave them.
TEST_F(Monitor, it_acts_before_the_kernel_does) {
  const std::vector<std::tuple<double, double, double>> recorded = {
      {0.0, 3.1, 0},     {1.0, 7.2, 0},     {2.0, 11.2, 0},     {2.25, 12.2, 0},  {2.5, 13.2, 0.2},
      {2.75, 14.2, 1.1}, {3.0, 14.9, 34.0}, {3.25, 15.3, 61.5}, {3.5, 15.7, 80.0}};
  double acted = 0;
  for (const auto& [at, used, stalled] : recorded) {
    now = Instant(1s) + std::chrono::milliseconds(static_cast<int64_t>(at * 1000));
    if (figures(used, stalled)) {
      acted = at;
      break;
    }
  }
  EXPECT_EQ(acted, 3.0) << "at 14.9 GiB everything stood still a third of the time";
}

TEST_F(Monitor, stalls_far_from_the_threshold_are_somebody_elses) { EXPECT_FALSE(figures(9, 90)); }

TEST_F(Monitor, who_uses_more_than_declared_goes_first) {
  EXPECT_TRUE(figures(15.5));
  EXPECT_EQ(chosen({worker(1, 5 * kGiB, Instant(9s)), worker(2, 3 * kGiB, Instant(1s), 2 * kGiB),
                    worker(3, 4 * kGiB, Instant(2s), 2 * kGiB)}),
            ProcessId{3});
}

TEST_F(Monitor, then_the_newest_of_those_that_can_be_retried) {
  EXPECT_TRUE(figures(15.5));
  std::vector<Use> uses = {worker(1, 5 * kGiB, Instant(1s)), worker(2, 2 * kGiB, Instant(7s)),
                           worker(3, 4 * kGiB, Instant(9s))};
  uses[2].retriable = false;
  EXPECT_EQ(chosen(uses), ProcessId{2});
}

TEST_F(Monitor, then_the_newest) {
  EXPECT_TRUE(figures(15.5));
  std::vector<Use> uses = {worker(1, 5 * kGiB, Instant(1s)), worker(2, 2 * kGiB, Instant(7s))};
  for (Use& use : uses) use.retriable = false;
  EXPECT_EQ(chosen(uses), ProcessId{2});
}

TEST_F(Monitor, an_idle_worker_that_holds_much_goes_before_any_at_work) {
  EXPECT_TRUE(figures(15.5));
  std::vector<Use> uses = {worker(1, 5 * kGiB, Instant(1s), kGiB), worker(2, kGiB, Instant(0s))};
  uses[1].running = false;
  EXPECT_EQ(chosen(uses), ProcessId{2});
  uses[1].bytes = 10 << 20;
  EXPECT_EQ(chosen(uses), ProcessId{1});
}

TEST_F(Monitor, driver_and_daemon_are_never_killed) {
  EXPECT_TRUE(figures(15.5));
  EXPECT_EQ(chosen({{.pid = 7, .what = "driver", .bytes = 14 * kGiB}}), kDaemonProcess);
}

TEST_F(Monitor, the_only_one_at_work_is_not_to_be_tried_again) {
  EXPECT_TRUE(figures(15.5));
  const auto alone = monitor.choose({worker(1, 14 * kGiB, Instant(1s))}, now);
  ASSERT_TRUE(alone.has_value());
  EXPECT_FALSE(alone->retry);
  EXPECT_NE(alone->text.find("trying again would end the same way"), std::string::npos);
  const auto among =
      monitor.choose({worker(1, 7 * kGiB, Instant(1s)), worker(2, 7 * kGiB, Instant(2s))}, now);
  EXPECT_TRUE(among.has_value() && among->retry);
}

TEST_F(Monitor, one_is_killed_at_a_time) {
  EXPECT_TRUE(figures(15.5));
  EXPECT_EQ(chosen({worker(1, kGiB, Instant(1s)), worker(2, kGiB, Instant(2s))}), ProcessId{2});
  now += 250ms;
  EXPECT_FALSE(figures(15.9));
  monitor.on_process_gone(ProcessId{2});
  EXPECT_TRUE(figures(15.9));
  EXPECT_EQ(chosen({worker(1, kGiB, Instant(1s))}), ProcessId{1});
  now += 6s;  // It does not go: perhaps it hangs in the kernel. Others have to.
  EXPECT_TRUE(figures(15.9));
}

TEST_F(Monitor, the_text_says_who_used_what) {
  EXPECT_TRUE(figures(15.5));
  std::vector<Use> uses = {worker(1, 5 * kGiB, Instant(1s), kGiB),
                           worker(2, 2 * kGiB, Instant(2s)),
                           {.pid = 77, .what = "object store", .bytes = 6 * kGiB}};
  const auto kill = monitor.choose(uses, now);
  ASSERT_TRUE(kill.has_value());
  for (const char* part : {"15.50 GiB of 16.00 GiB of the machine", "pid 1001", "5.00 GiB",
                           "1.00 GiB", "worker (killed)", "object store", "declared"}) {
    EXPECT_NE(kill->text.find(part), std::string::npos) << part << "\n" << kill->text;
  }
}

TEST_F(Monitor, it_looks_rarely_when_far_from_the_threshold) {
  figures(2);
  EXPECT_GT(*monitor.next_look(now) - now, 3s);
  figures(14);
  EXPECT_LT(*monitor.next_look(now) - now, 400ms);
  figures(15.5);
  EXPECT_EQ(*monitor.next_look(now) - now, 250ms);
}

TEST_F(Monitor, it_looks_more_often_while_memory_is_taken_fast) {
  figures(10);
  now += 250ms;
  figures(12);
  EXPECT_LT(*monitor.next_look(now) - now, 250ms);
  now += 200ms;
  figures(15);
  EXPECT_EQ(*monitor.next_look(now) - now, 20ms);
  now += 20ms;
  figures(15);
  EXPECT_EQ(*monitor.next_look(now) - now, 250ms);
}

TEST_F(Monitor, a_refresh_of_zero_turns_it_off) {
  MemoryMonitor off({.refresh = Duration(0)});
  EXPECT_FALSE(off.on_figures({.used = 2, .limit = 1, .stalled = 0, .limit_name = ""}, now));
  EXPECT_FALSE(off.next_look(now).has_value());
}

// Whatever happens: nobody is killed below the threshold, one at a time, and never anything but a worker.
TEST(MemoryMonitorRandom, it_kills_only_when_it_must) {
  const char* text = std::getenv("MOBULA_SEED");
  std::mt19937_64 random(text == nullptr ? 1 : std::strtoull(text, nullptr, 10));
  MemoryMonitor monitor({});
  Instant now{1s};
  std::optional<ProcessId> dying;
  Instant killed_at{0};
  uint32_t next = 1;
  std::vector<Use> uses;
  for (int step = 0; step < 20'000; step++) {
    now += std::chrono::milliseconds(random() % 500);
    if (uses.size() < 6 && random() % 2 == 0) {
      uses.push_back(worker(next++, random() % (4 * kGiB), now, random() % 3 == 0 ? kGiB : 0));
      uses.back().running = random() % 4 != 0;
      uses.back().retriable = random() % 2 == 0;
    }
    const uint64_t used = random() % (16 * kGiB);
    const bool is_short =
        monitor.on_figures({.used = used, .limit = 16 * kGiB, .stalled = 0, .limit_name = ""}, now);
    if (is_short) {
      EXPECT_GT(used, 15 * kGiB);
      EXPECT_TRUE(!dying || now - killed_at >= 5s);
      if (const auto kill = monitor.choose(uses, now)) {
        EXPECT_TRUE(std::ranges::any_of(
            uses, [&](const Use& use) { return use.process == kill->process; }));
        dying = kill->process;
        killed_at = now;
      }
    }
    if (dying && random() % 3 == 0) {
      monitor.on_process_gone(*dying);
      std::erase_if(uses, [&](const Use& use) { return use.process == *dying; });
      dying.reset();
    }
  }
  EXPECT_GT(monitor.kills(), 100);
}

}  // namespace
}  // namespace mobula::memory
