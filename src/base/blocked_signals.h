#pragma once
// BlockedSignals: while it lives, no signal is delivered to the thread that made it. A thread that is
// started meanwhile never gets one.
//
// Threads: one.

#include <pthread.h>
#include <signal.h>

namespace mobula {

class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace mobula
