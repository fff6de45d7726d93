#pragma once
// Starting a program as a child, and naming processes by descriptor.
//
// The child gets its own session and process group, only the descriptors it is given (and /dev/null
// as its input), no blocked or ignored signals, and SIGKILL when the thread that started it ends.
//
// Threads: call spawn() from a thread that lives as long as the process (the loop's).

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "shm/memory.h"

namespace mobula::io {

struct Program {
  std::string path;                      // Found through PATH if it has no slash.
  std::vector<std::string> arguments;    // Starts with the program's name.
  std::vector<std::string> environment;  // NAME=value
  std::string working_directory;         // Empty: ours.
  std::vector<int> descriptors;          // Ours; in the child they are 1, 2, 3, ...
  uint64_t descriptors_max = 0;          // Soft limit in the child; 0: ours.
};

// kUnavailable: it could not be started; the text says why.
Result<pid_t> spawn(const Program& program);

// Readable once the process has ended. kNotFound: there is no such process.
Result<shm::Fd> open_pidfd(pid_t pid);

// Raises the limit of open descriptors as far as allowed. Returns what it was before.
uint64_t raise_descriptor_limit(uint64_t wanted);
uint64_t descriptor_limit();
// Of a process of this user; 0: it cannot be asked.
uint64_t descriptor_limit_of(pid_t pid);

}  // namespace mobula::io
