#pragma once
// OutputLabel tells the daemon whose output it is that stands on this worker's stdout and stderr, also
// what is written below Python and by programs that a task starts. The daemon's half: node/log_pump.h.
//
// The name in the home region is of what is written from now on. What is still unread in a pipe when
// the name changes is told from what follows by a mark in the pipe, with both names. Whether something
// is unread takes a system call for each pipe. It is made at some hundred changes after a sign that
// something was written, and else as long as that stays a 64th of the time that has passed: short tasks of
// different functions in turn, of which none prints, make few.
//
//   daemon: reads := odd | fence | look at name | read | reads := even
//   worker: unread? mark | store name | fence | reads odd? mark
//
// So either the daemon's look sees the new name, or the mark is written before anything else is.
//
// Threads: the one that executes tasks.
// Limits:  names are cut at OutputLabelCell::kBytesMax. A pipe that stays full for kPatience gets no mark:
//          its reader is stopped, and tasks go on.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/time.h"
#include "process/runtime_types.h"
#include "shm/home.h"

namespace mobula::process {

constexpr size_t kOutputPipes = 2;  // stdout, stderr.

class OutputLabel {
 public:
  void open(std::byte* home) { home_ = &shm::home_header(home); }
  // The descriptors of the pipes, which stay the caller's.
  void watch(std::array<int, kOutputPipes> pipes);

  // What is written from now on is `full_name`'s. `wrote`: something was written since the last change, as
  // far as is known. The gate opens while a full pipe is waited for.
  void change(std::string_view full_name, Instant now, bool wrote, Gate& gate);
  // The line that was begun on a pipe is complete.
  void end_line(size_t pipe, Gate& gate) { mark(pipe, name_, gate); }

 private:
  bool affords_look(Instant now);
  int unread(size_t pipe) const;
  void mark(size_t pipe, std::string_view next, Gate& gate);
  bool has_room(size_t pipe, Gate& gate);

  shm::HomeHeader* home_ = nullptr;
  std::array<int, kOutputPipes> pipes_{-1, -1};
  std::array<ino_t, kOutputPipes> inodes_{};
  std::string name_;
  uint64_t reads_seen_ = 0;
  Instant changed_{};
  int64_t credit_ns_ = 0;
  int careful_ = 0;       // At so many changes more it looks.
  bool stopped_ = false;  // The reader of the pipes, it seems.
};

}  // namespace mobula::process
