#pragma once
// Queries answers what processes ask about the node: resources, nodes, who ran what when.
//
// It keeps the traces of the last kDeadTracesMax processes of each job that have ended.
//
// Threads: the loop's.

#include <deque>
#include <map>
#include <string>

#include "core/scheduler/scheduler.h"
#include "node/sessions.h"
#include "node/store_shell.h"

namespace mobula::node {

constexpr size_t kDeadTracesMax = 64;

struct NodeIdentity {
  NodeId id{};
  std::string host_name;
  std::string session_directory;
};

class Queries {
 public:
  Queries(Sessions& sessions, const scheduler::NodeScheduler& scheduler, const StoreShell& store,
          NodeIdentity identity)
      : sessions_(sessions), scheduler_(scheduler), store_(store), identity_(std::move(identity)) {}

  void answer(Session& session, const wire::fb::Query& query);
  // The process has ended; its home region is kept for timelines.
  void keep_trace(Session& session);
  void forget_job(JobId job) { dead_.erase(job); }

 private:
  struct Trace {
    ProcessId process{};
    pid_t pid = 0;
    shm::Fd home;
  };
  struct Source {
    ProcessId process{};
    pid_t pid = 0;
    int home = -1;
  };

  ResourceSet resources(bool total) const;
  void answer_resources(Session& session, uint64_t request, bool total);
  void answer_nodes(Session& session, uint64_t request);
  void answer_timeline(Session& session, uint64_t request);
  void answer_state(Session& session, uint64_t request);

  Sessions& sessions_;
  const scheduler::NodeScheduler& scheduler_;
  const StoreShell& store_;
  const NodeIdentity identity_;
  std::map<JobId, std::deque<Trace>> dead_;
};

}  // namespace mobula::node
