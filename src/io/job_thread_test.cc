#include "io/job_thread.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>
#include <future>

#include "base/blocked_signals.h"

namespace mobula::io {
namespace {

// SIGTERM stands for all.
bool blocks_signals() {
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return ::sigismember(&now, SIGTERM) == 1;
}

TEST(JobThread, no_signal_is_delivered_to_it_and_its_maker_gets_them_as_before) {
  std::promise<bool> blocked;
  JobThread thread("mobula-test", JobPriority::kNormal);
  thread.add([&] {
    blocked.set_value(blocks_signals());
    return false;
  });
  EXPECT_FALSE(blocks_signals());
  EXPECT_TRUE(blocked.get_future().get());
}

#ifndef MOBULA_SANITIZED  // Sanitizers need address space without limits.
// In a process of its own.
[[noreturn]] void start_a_thread_without_room_for_a_stack() {
  JobThread thread("mobula-test", JobPriority::kNormal);
  rlimit none{};
  none.rlim_max = RLIM_INFINITY;
  ::setrlimit(RLIMIT_AS, &none);
  const bool started = thread.add([] { return false; });
  std::_Exit(started || blocks_signals() ? 1 : 0);
}

TEST(JobThread, where_no_thread_can_be_started_it_says_so_and_signals_are_as_before) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // No stack of an earlier thread is left there.
  EXPECT_EXIT(start_a_thread_without_room_for_a_stack(), testing::ExitedWithCode(0), "");
}
#endif

TEST(BlockedSignals, they_are_as_before_at_its_end) {
  {
    const BlockedSignals blocked;
    EXPECT_TRUE(blocks_signals());
  }
  EXPECT_FALSE(blocks_signals());
}

}  // namespace
}  // namespace mobula::io
