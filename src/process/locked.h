#pragma once
// Locked: holds the runtime's lock; on unlock() or destruction opens it and does what was deferred.
//
// Threads: of the thread that made it.

#include "process/runtime_state.h"

namespace mobula::process {

class Locked {
 public:
  explicit Locked(RuntimeState& state) : state_(state), pending_(of_this_thread()) { lock(); }
  ~Locked() {
    if (held_) unlock();
  }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;
  void lock();
  void unlock();

 private:
  static Deferred& of_this_thread();

  RuntimeState& state_;
  Deferred& pending_;
  bool held_ = false;
};

}  // namespace mobula::process
