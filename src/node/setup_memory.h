#pragma once
// What an interpreter of a job is started with that is no argument or variable of a program: those are
// limited by the kernel, this is not. It reads the memory first (python/mobula/_setup_memory.py).
//
// Texts, each of them ended by a NUL: the number of entries of sys.path, these entries, the spec of the
// environment that is to be prepared (empty: none), and variables, NAME=value.
//
// Threads: none.

#include <string>
#include <vector>

#include "base/result.h"
#include "shm/memory.h"

namespace mobula::node {

// NAME=value, each.
struct Variables {
  std::vector<std::string> now;   // What a program can be started with.
  std::vector<std::string> late;  // The others: the largest, if there are too many.
};
Variables split_variables(const std::vector<std::string>& variables);

struct SetupTexts {
  const std::vector<std::string>& sys_path;
  const std::string& environment_spec;
  const std::vector<std::string>& variables;
};

// kRetryLater: out of descriptors or memory.
Result<shm::Fd> make_setup_memory(const SetupTexts& texts);

}  // namespace mobula::node
