#pragma once
// quiet_thread: a named thread that no signal of the program is delivered to.
//
// Threads: any.

#include <pthread.h>

#include <thread>
#include <utility>

#include "base/blocked_signals.h"

namespace mobula::process {

template <typename Run>
std::thread quiet_thread(const char* name, Run run) {
  const BlockedSignals blocked;
  std::thread thread(std::move(run));
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace mobula::process
