#pragma once
// What this machine, and the cgroup we run in, can still give. Reads /proc and the cgroup file
// system (v1 and v2); asks nobody and keeps nothing.
//
// Threads: any.

#include <cstdint>
#include <string>

namespace mobula::node {

// MemAvailable, bytes.
uint64_t memory_available();
// Limit less use of the tightest memory cgroup that we are in; all ones without one. Bytes.
uint64_t cgroup_memory_available();
// Processes of our cgroup that the kernel has killed for want of memory so far; 0 if it does not say.
uint64_t oom_kill_count();

std::string host_name();

}  // namespace mobula::node
