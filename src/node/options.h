#pragma once
// What a node daemon is told when it is started.

#include <cstdint>
#include <string>

#include "base/resources.h"

namespace mobula::node {

struct NodeOptions {
  // The daemon's end of the socket of the driver that started it; it ends with its last driver.
  // -1: a standing daemon, which serves whoever comes until it is told to end.
  int driver_fd = -1;
  // Standing: where "ready", or why it cannot start, is written to; -1: nowhere.
  int ready_fd = -1;
  // Its lock says that the session is alive (python/mobula/_sessions_here.py); -1: there is none.
  int lock_fd = -1;
  ResourceSet resources;
  std::string labels = "{}";  // Of the node, as JSON: for the session's file only.
  uint64_t object_store_bytes = 0;
  std::string session_directory;  // Ours to remove at the end.
  std::string session_link;       // A name of the directory, ours to remove, too. May be empty.
  std::string spill_directory;    // Where objects are spilled to; empty: in the session's folder.
  // On loopback, for Prometheus; 0: one that is free, -1: none.
  int metrics_port = 0;
  std::string log_level = "info";
  std::string version;

  bool is_standing() const { return driver_fd < 0; }
};

}  // namespace mobula::node
