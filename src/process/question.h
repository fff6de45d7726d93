#pragma once
// Question: what a thread asks the node daemon and waits for, with the answer as it comes in.
//
// Threads: guarded by the runtime's lock.

#include <string>
#include <utility>
#include <vector>

#include "process/runtime_types.h"
#include "shm/memory.h"

namespace mobula::process {

struct Question {
  bool done = false;
  std::string error;
  std::vector<std::pair<std::string, double>> resources;
  std::vector<NodeInfo> nodes;
  struct Trace {
    shm::Fd home;
    uint32_t pid;
    uint32_t process;
  };
  std::vector<Trace> traces;
  // Of actors.
  ObjectId actor;
  std::vector<std::pair<std::string, std::string>> names;
  // Of segment requests.
  uint32_t segment = 0;
  uint64_t segment_bytes = 0;
  shm::Fd segment_fd;
};

}  // namespace mobula::process
