#pragma once
// Loop is the event loop of a process's one deciding thread: descriptors, timers, and work that lies
// in shared-memory rings, for which no descriptor becomes ready.
//
//   run():  ready handlers ─► poller.work() ─► poller.prepare_sleep() ─► wait for a descriptor
//               ▲                  │ more              │ news                  │
//               └──────────────────┴───────────────────┴───────────────────────┘
//
// It decides nothing. An idle loop sleeps without a tick. Destroying a Watch or a Timer cancels it,
// also from inside its own callback; the callback is not called again.
//
// Threads: one thread runs the loop and makes, calls and destroys everything of it. post() and
//          stop() may be called by any thread.

#include <functional>
#include <memory>

#include "base/result.h"
#include "base/time.h"

namespace mobula::io {

using Callback = std::function<void()>;

// Work that the loop must look for by itself.
class Poller {
 public:
  virtual ~Poller() = default;
  // Does a bounded amount of work. True if there may be more now.
  virtual bool work() = 0;
  // Tells the outside that the loop is about to sleep, then looks once more. False: do not sleep.
  virtual bool prepare_sleep() = 0;
  // The loop is awake again.
  virtual void awake() = 0;
};

class Watch {
 public:
  virtual ~Watch() = default;
  // Calls `callback` once, when the descriptor can be written. Replaces an earlier one.
  virtual void when_writable(Callback callback) = 0;
};

class Timer {
 public:
  virtual ~Timer() = default;
};

class Loop {
 public:
  // kUnavailable: the system has no descriptors left for it.
  static Result<std::unique_ptr<Loop>> open();
  virtual ~Loop() = default;

  // Calls `on_readable` whenever `fd` has something to read, has hung up or failed. Whoever leaves
  // something unread is called again. `fd` stays the caller's and must outlive the watch; one watch
  // a descriptor.
  virtual Result<std::unique_ptr<Watch>> watch(int fd, Callback on_readable) = 0;
  // Calls `callback` once, not before `when`.
  virtual std::unique_ptr<Timer> at(Instant when, Callback callback) = 0;
  // Calls `callback` from the loop, soon. Any thread.
  virtual void post(Callback callback) = 0;

  // Runs until stop().
  virtual void run(Poller& poller) = 0;
  // For loops without rings.
  void run();
  virtual void stop() = 0;
};

}  // namespace mobula::io
