#include "process/loop_queues.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

namespace mobula::process {
namespace {

TEST(LoopQueues, a_loop_is_woken_once_for_the_tokens_that_it_has_not_taken) {
  LoopQueues queues;
  const shm::Fd event(::eventfd(0, EFD_CLOEXEC));
  const Result<uint32_t> queue = queues.open(event.get());
  ASSERT_TRUE(queue.has_value());
  const LoopQueues::Event woken = queues.add(*queue, 7);
  ASSERT_NE(woken, nullptr);
  EXPECT_NE(woken->get(), event.get()) << "it may be closed and its number be another's by then";
  EXPECT_EQ(queues.add(*queue, 8), nullptr);
  EXPECT_EQ(queues.take(*queue), (std::vector<uint64_t>{7, 8}));
  EXPECT_TRUE(queues.take(*queue).empty());
  EXPECT_NE(queues.add(*queue, 9), nullptr);
}

TEST(LoopQueues, a_closed_queue_drops_its_tokens_and_its_number_is_not_used_again) {
  LoopQueues queues;
  const shm::Fd event(::eventfd(0, EFD_CLOEXEC));
  const uint32_t first = queues.open(event.get()).value();
  queues.close(first);
  EXPECT_EQ(queues.add(first, 1), nullptr);
  EXPECT_TRUE(queues.take(first).empty());
  EXPECT_NE(queues.open(event.get()).value(), first);
  EXPECT_FALSE(queues.open(-1).has_value());
}

}  // namespace
}  // namespace mobula::process
