#include "process/locked.h"

#include <sys/eventfd.h>

namespace mobula::process {

Deferred& Locked::of_this_thread() {
  // Filled while the thread holds the lock, emptied after it opened it: one set a thread is enough.
  thread_local Deferred pending;
  return pending;
}

void Locked::lock() {
  state_.lock_.lock();
  state_.deferred_ = &pending_;
  held_ = true;
}

void Locked::unlock() {
  held_ = false;
  // Never older than the moment in which the lock was last open.
  state_.trace_.publish({state_.unfinished_, state_.dispatcher_.queued(),
                         state_.dispatcher_.in_flight(), state_.live_calls_});
  state_.lock_.unlock();
  for (const Deferred::Bell& bell : pending_.bells) {
    if (bell.bit != Deferred::kNoBit) shm::announce(*bell.bell, bell.bit);
    if (bell.wake && shm::sleeps_after_announcement(*bell.bell)) shm::wake(*bell.bell);
  }
  pending_.bells.clear();
  for (std::atomic<uint32_t>* word : pending_.words) shm::futex_wake(*word);
  pending_.words.clear();
  for (const auto& event : pending_.events) ::eventfd_write(event->get(), 1);
  pending_.events.clear();
  if (pending_.daemon) {
    pending_.daemon = false;
    shm::ring_daemon(*state_.daemon_bell_, state_.daemon_event_.get());
  }
}

}  // namespace mobula::process
