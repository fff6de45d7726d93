#include "io/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "shm/memory.h"

namespace mobula::io {
namespace {

using namespace std::chrono_literals;

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    reader = shm::Fd(ends[0]);
    writer = shm::Fd(ends[1]);
  }
  void write(char byte) const { EXPECT_EQ(::write(writer.get(), &byte, 1), 1); }
  char read() const {
    char byte = 0;
    EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
    return byte;
  }
  shm::Fd reader;
  shm::Fd writer;
};

std::unique_ptr<Loop> open_loop() {
  auto loop = Loop::open();
  EXPECT_TRUE(loop.has_value());
  return std::move(*loop);
}

TEST(Loop, who_leaves_something_unread_is_called_again) {
  const auto loop = open_loop();
  const Pipe pipe;
  pipe.write('a');
  pipe.write('b');
  pipe.write('c');
  std::string seen;
  const auto watch = loop->watch(pipe.reader.get(), [&] {
    seen += pipe.read();
    if (seen.size() == 3) loop->stop();
  });
  ASSERT_TRUE(watch.has_value());
  loop->run();
  EXPECT_EQ(seen, "abc");
}

TEST(Loop, a_watch_can_be_destroyed_in_its_own_callback) {
  const auto loop = open_loop();
  const Pipe pipe;
  pipe.write('a');
  int calls = 0;
  std::unique_ptr<Watch> watch;
  watch = std::move(*loop->watch(pipe.reader.get(), [&] {
    ++calls;
    watch.reset();
    loop->at(monotonic_now(), [] {});
    loop->post([&] { loop->stop(); });
  }));
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST(Loop, timers_come_in_order_and_a_destroyed_one_never) {
  const auto loop = open_loop();
  std::string seen;
  const Instant now = monotonic_now();
  const auto late = loop->at(now + 20ms, [&] {
    seen += 'c';
    loop->stop();
  });
  const auto early = loop->at(now + 5ms, [&] { seen += 'a'; });
  const auto past = loop->at(now - 1s, [&] { seen += '0'; });
  auto never = loop->at(now + 10ms, [&] { seen += 'x'; });
  never.reset();
  loop->run();
  EXPECT_EQ(seen, "0ac");
}

TEST(Loop, when_writable_is_called_once) {
  const auto loop = open_loop();
  const shm::Fd event(::eventfd(0, EFD_NONBLOCK));
  int calls = 0;
  const auto watch = loop->watch(event.get(), [] {});
  ASSERT_TRUE(watch.has_value());
  (*watch)->when_writable([&] {
    ++calls;
    loop->post([&] { loop->post([&] { loop->stop(); }); });
  });
  loop->run();
  EXPECT_EQ(calls, 1);
}

TEST(Loop, other_threads_can_post_to_a_sleeping_loop) {
  const auto loop = open_loop();
  std::thread::id ran_in;
  std::thread other([&] {
    loop->post([&] {
      ran_in = std::this_thread::get_id();
      loop->stop();
    });
  });
  loop->run();
  other.join();
  EXPECT_EQ(ran_in, std::this_thread::get_id());
}

// Work that no descriptor tells of, as shared-memory rings have it.
class CountingPoller final : public Poller {
 public:
  explicit CountingPoller(Loop& loop) : loop_(loop) {}
  bool work() override {
    if (awake_) ++works;
    if (left == 0) return false;
    --left;
    return true;
  }
  bool prepare_sleep() override {
    awake_ = false;
    ++sleeps;
    if (late > 0) {  // News that came just before the sleep.
      left += std::exchange(late, 0);
      return false;
    }
    timer_ = loop_.at(monotonic_now(), [this] { loop_.stop(); });
    return true;
  }
  void awake() override { awake_ = true; }

  int left = 3;
  int late = 2;
  int works = 0;
  int sleeps = 0;

 private:
  Loop& loop_;
  bool awake_ = true;
  std::unique_ptr<Timer> timer_;
};

TEST(Loop, it_sleeps_only_when_the_poller_finds_nothing_twice) {
  const auto loop = open_loop();
  CountingPoller poller(*loop);
  loop->run(poller);
  EXPECT_EQ(poller.left, 0);
  EXPECT_EQ(poller.late, 0);
  EXPECT_EQ(poller.sleeps, 2);
}

}  // namespace
}  // namespace mobula::io
