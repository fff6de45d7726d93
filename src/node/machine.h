#pragma once
// What this machine, and the cgroup we run in, can still give. Reads /proc and the cgroup file
// system (v1 and v2); asks nobody and keeps nothing.
//
// Threads: any.

#include <cstdint>
#include <string>

#include "core/memory/memory_monitor.h"

namespace mobula::node {

// MemAvailable, bytes.
uint64_t memory_available();
// Limit less use of the tightest memory cgroup that we are in; all ones without one. Bytes.
uint64_t cgroup_memory_available();
// For the memory monitor: what is in use of what there is, of a cgroup above us or of the machine:
// whichever has the fewest bytes left below this share of its limit. A small cgroup that is half empty can
// be full before a large machine that has a tenth left. And stalls (PSI "full avg10"; 0 where the kernel
// does not say).
memory::Figures memory_figures(double threshold);
// Memory of one process that would be free without it: anonymous and swapped. 0: it is gone. Bytes.
uint64_t process_memory(int pid);

// Processes of our cgroup that the kernel has killed for want of memory so far; 0 if it does not say.
uint64_t oom_kill_count();

std::string host_name();

// By SIGSTOP or a debugger: nothing in the process runs.
bool is_stopped(pid_t pid);

}  // namespace mobula::node
