#include "io/loop.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

namespace mobula::io {

namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// Shared with the handlers in flight, which find `alive` false after the watch was destroyed.
struct WatchState {
  explicit WatchState(asio::io_context& context) : descriptor(context) {}
  asio::posix::stream_descriptor descriptor;
  Callback on_readable;
  Callback on_writable;
  bool alive = true;
  bool waits_for_writable = false;
};

void await_readable(std::shared_ptr<WatchState> state) {
  WatchState& watch = *state;
  watch.descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                              [state = std::move(state)](const error_code& error) mutable {
                                if (!state->alive || error) return;
                                state->on_readable();
                                if (state->alive) await_readable(std::move(state));
                              });
}

class AsioWatch final : public Watch {
 public:
  explicit AsioWatch(std::shared_ptr<WatchState> state) : state_(std::move(state)) {}
  AsioWatch(const AsioWatch&) = delete;
  AsioWatch& operator=(const AsioWatch&) = delete;
  ~AsioWatch() override {
    state_->alive = false;
    state_->descriptor.release();  // Cancels what waits; the descriptor is not ours to close.
  }

  void when_writable(Callback callback) override {
    state_->on_writable = std::move(callback);
    if (std::exchange(state_->waits_for_writable, true)) return;
    state_->descriptor.async_wait(asio::posix::stream_descriptor::wait_write,
                                  [state = state_](const error_code& error) {
                                    if (!state->alive || error) return;
                                    state->waits_for_writable = false;
                                    const Callback now = std::move(state->on_writable);
                                    now();
                                  });
  }

 private:
  const std::shared_ptr<WatchState> state_;
};

struct TimerState {
  explicit TimerState(asio::io_context& context) : timer(context) {}
  asio::steady_timer timer;
  Callback callback;
  bool alive = true;
};

class AsioTimer final : public Timer {
 public:
  explicit AsioTimer(std::shared_ptr<TimerState> state) : state_(std::move(state)) {}
  AsioTimer(const AsioTimer&) = delete;
  AsioTimer& operator=(const AsioTimer&) = delete;
  ~AsioTimer() override {
    state_->alive = false;
    state_->timer.cancel();
  }

 private:
  const std::shared_ptr<TimerState> state_;
};

class AsioLoop final : public Loop {
 public:
  AsioLoop() : context_(1) {}

  Result<std::unique_ptr<Watch>> watch(int fd, Callback on_readable) override {
    auto state = std::make_shared<WatchState>(context_);
    error_code error;
    state->descriptor.assign(fd, error);
    if (error) return fail(ErrorCode::kUnavailable, "watching a descriptor: " + error.message());
    state->on_readable = std::move(on_readable);
    await_readable(state);
    return std::make_unique<AsioWatch>(std::move(state));
  }

  std::unique_ptr<Timer> at(Instant when, Callback callback) override {
    auto state = std::make_shared<TimerState>(context_);
    state->callback = std::move(callback);
    // Instant is CLOCK_MONOTONIC, which is what libstdc++'s steady_clock reads.
    state->timer.expires_at(std::chrono::steady_clock::time_point(when));
    state->timer.async_wait([state](const error_code& error) {
      if (state->alive && !error) state->callback();
    });
    return std::make_unique<AsioTimer>(std::move(state));
  }

  void post(Callback callback) override { asio::post(context_, std::move(callback)); }

  void run(Poller& poller) override {
    const auto work = asio::make_work_guard(context_);
    while (!stopped_.load()) {
      context_.poll();
      if (stopped_.load()) break;
      if (poller.work()) continue;
      if (poller.prepare_sleep()) context_.run_one();
      poller.awake();
    }
    stopped_.store(false);
  }

  void stop() override {
    stopped_.store(true);
    post([] {});  // Wakes the loop.
  }

 private:
  asio::io_context context_;
  std::atomic<bool> stopped_{false};
};

class NoRings final : public Poller {
 public:
  bool work() override { return false; }
  bool prepare_sleep() override { return true; }
  void awake() override {}
};

}  // namespace

Result<std::unique_ptr<Loop>> Loop::open() {
  try {  // Asio has no other way to say it.
    return std::make_unique<AsioLoop>();
  } catch (const boost::system::system_error& error) {
    return fail(ErrorCode::kUnavailable, std::string("event loop: ") + error.what());
  }
}

void Loop::run() {
  NoRings nothing;
  run(nothing);
}

}  // namespace mobula::io
