#pragma once
// quiet_thread: a named thread that no signal of the program is delivered to.
//
// Threads: any.

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace mobula::process {

template <typename Run>
std::thread quiet_thread(const char* name, Run run) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(run));
  pthread_setname_np(thread.native_handle(), name);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace mobula::process
