#pragma once
// Signals as events of the loop, and the children whose end they announce.
//
// Threads: the loop's; block_signals() before any other thread is started.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "io/loop.h"
#include "shm/memory.h"

namespace mobula::io {

class Signals {
 public:
  // Blocks `signals` in this thread, and in those it starts, and delivers them to `on_signal`. A
  // signal that comes several times before it is looked at is delivered once.
  static Result<std::unique_ptr<Signals>> open(Loop& loop, const std::vector<int>& signals,
                                               std::function<void(int)> on_signal);

 private:
  Signals(shm::Fd fd, std::function<void(int)> on_signal);
  void on_readable();

  const shm::Fd fd_;
  const std::function<void(int)> on_signal_;
  std::unique_ptr<Watch> watch_;
};

// How a process ended.
struct ExitStatus {
  int signal = 0;     // 0: it exited.
  int exit_code = 0;  // Meaningful if signal is 0.
};

// A child that has ended and was not collected yet; it stays a zombie, so that its pid, and that of
// its process group, still names it and nothing else.
std::optional<pid_t> peek_ended_child();
// Collects a child that has ended.
ExitStatus collect_child(pid_t pid);
// Children of children come to us when their parents end.
void adopt_orphans();

}  // namespace mobula::io
