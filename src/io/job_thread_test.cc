#include "io/job_thread.h"

#include <gtest/gtest.h>

#include <csignal>
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

TEST(BlockedSignals, they_are_as_before_at_its_end) {
  {
    const BlockedSignals blocked;
    EXPECT_TRUE(blocks_signals());
  }
  EXPECT_FALSE(blocks_signals());
}

}  // namespace
}  // namespace mobula::io
