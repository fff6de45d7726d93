#pragma once
// Question: what a thread asks the node daemon and waits for, with the answer as it comes in.
//
// Threads: guarded by the runtime's lock.

#include <string>
#include <utility>
#include <vector>

#include "process/runtime_types.h"
#include "process/store_client.h"
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
    uint32_t job;
    bool is_driver;
    bool alive;
  };
  std::vector<Trace> traces;
  // Of actors.
  ObjectId actor;
  std::vector<std::pair<std::string, std::string>> names;
  // Memory that another process, or the daemon, has filled with so many bytes.
  struct Contents {
    shm::Fd memory;
    uint64_t bytes = 0;
    uint32_t pid = 0;
    uint32_t process = 0;
    std::string error;
  };
  std::vector<Contents> live;
  Contents daemon;
  bool found = false;  // Of FindObject.
  uint64_t group = 0;  // Of GroupCreate.
  uint64_t count = 0;  // Of KeyValue.
  // The daemon's reason to refuse, if it is a special one; how long it may take.
  std::optional<ErrorCode> refused;
  Duration patience = std::chrono::seconds(60);
  // Of segment requests. Answered by a segment, or by room that became free in one of ours.
  uint64_t wanted_bytes = 0;
  std::optional<WritableExtent> extent;
  uint32_t segment = 0;
  uint64_t segment_bytes = 0;
  shm::Fd segment_fd;
};

}  // namespace mobula::process
