#pragma once
// Zygote: one warm interpreter of a job's runtime environment, from which its workers are forked.
//
//   starting (it prepares the environment and imports; requests wait in its socket) ──► serving ──►
//   gone (ended, or it crashed)
//
// With a spec of an environment it starts as the job's own interpreter, which prepares what the spec
// asks for and then replaces itself by the interpreter of the environment.
//
// It is asked by small JSON packets (python/mobula/_zygote.py has the other end). What it forks
// becomes a child of the daemon. If it says that it cannot fork safely, a worker is started as a
// fresh interpreter instead.
//
// Threads: the loop's.

#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "io/packet_socket.h"
#include "io/spawn.h"
#include "shm/memory.h"

namespace mobula::node {

// What a driver says about its workers.
struct JobSetup {
  std::string python;
  std::string working_directory;
  std::vector<std::string> sys_path;
  std::vector<std::string> environment;  // NAME=value
  bool log_to_driver = true;
  std::string job_namespace;
  uint64_t descriptors_max = 0;  // Soft limit of the driver.
  std::string session_directory;
  std::string environment_spec;  // Empty: nothing is to be prepared.
};

// A worker's ends of what connects it with the daemon. Closed here once the worker has them.
struct WorkerEnds {
  shm::Fd socket;
  shm::Fd output;
  shm::Fd errors;
};

class Zygote {
 public:
  struct Callbacks {
    std::function<void(ProcessId, pid_t)> on_started;
    // It could not be started, or nobody knows whether it was. Its ends are closed.
    std::function<void(ProcessId, const std::string&)> on_failed;
    std::function<void()> on_ready;                    // It serves.
    std::function<void(const std::string&)> on_unfit;  // Its environment cannot be prepared.
    std::function<void(const std::string&)> on_gone;   // Do not destroy the zygote inside.
  };

  // `log_path`: where it and its failures write, after what is there.
  static Result<std::unique_ptr<Zygote>> start(io::Loop& loop, const JobSetup& setup,
                                               const std::string& log_path, Callbacks callbacks);

  // on_started or on_failed follows.
  void fork(ProcessId worker, WorkerEnds ends);
  // Those whose fork was asked for have failed. Before it is destroyed.
  void abandon(const std::string& reason);
  pid_t pid() const { return pid_; }
  // Forks that were asked for and not answered.
  size_t pending() const { return pending_.size(); }

 private:
  Zygote(const JobSetup& setup, Callbacks callbacks);
  void on_packet(std::span<const std::byte> bytes);
  void start_fresh(ProcessId worker, const WorkerEnds& ends);
  void fail_all(const std::string& reason);

  const JobSetup setup_;
  const Callbacks callbacks_;
  pid_t pid_ = 0;
  std::map<ProcessId, WorkerEnds> pending_;
  std::unique_ptr<io::PacketSocket> socket_;
};

}  // namespace mobula::node
