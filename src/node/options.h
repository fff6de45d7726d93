#pragma once
// What a node daemon is told when it is started.

#include <cstdint>
#include <string>

#include "base/resources.h"

namespace mobula::node {

struct NodeOptions {
  int driver_fd = -1;  // The daemon's end of its driver's socket.
  ResourceSet resources;
  uint64_t object_store_bytes = 0;
  std::string session_directory;  // Ours to remove at the end.
  std::string log_level = "info";
};

}  // namespace mobula::node
