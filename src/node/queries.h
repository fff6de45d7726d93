#pragma once
// Queries answers what processes ask about the node: resources, nodes, who ran what when.
//
// It keeps the home regions of the last kDeadTracesMax processes of each job that have ended, and of all
// that have ended what they were and how many tasks ended there.
//
// Threads: the loop's.

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/scheduler/scheduler.h"
#include "node/sessions.h"
#include "node/store_shell.h"

namespace mobula::node {

constexpr size_t kDeadTracesMax = 64;
constexpr size_t kDeadProcessesMax = 1000;
constexpr size_t kForgottenNamesMax = 1000;

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
  // The traces of all processes of the node, drivers' and ended ones' included.
  void send_traces(Session& session, uint64_t request);
  // The process has ended; its home region is kept.
  void keep_trace(Session& session, const std::string& cause, bool as_asked);
  // [{"process": 3, "pid": 12, "cause": "killed by SIGKILL", ...}, ...], the last kDeadProcessesMax.
  std::string dead_processes_json() const;
  // {"f": [finished, failed], ...}: of processes whose traces are kept no more.
  std::string forgotten_totals_json() const;
  // Finished and failed, by name: of all processes, whether or not they live.
  std::map<std::string, std::pair<uint64_t, uint64_t>> ended_totals() const;
  void set_metrics_port(int port) { metrics_port_ = port; }
  void forget_job(JobId job);

 private:
  struct Trace {
    ProcessId process{};
    pid_t pid = 0;
    shm::Fd home;
    bool is_driver = false;
  };
  struct Source {
    ProcessId process{};
    pid_t pid = 0;
    int home = -1;
    bool is_driver = false;
    JobId job{};
    bool alive = false;
  };
  struct DeadProcess {
    ProcessId process{};
    pid_t pid = 0;
    JobId job{};
    bool is_driver = false;
    bool as_asked = false;  // It ended because it was to.
    Instant started{};
    Instant ended{};
    std::string cause;
  };

  ResourceSet resources(bool total) const;
  void answer_resources(Session& session, uint64_t request, bool total);
  void answer_nodes(Session& session, uint64_t request);
  void answer_timeline(Session& session, uint64_t request);
  std::vector<Source> trace_sources(bool with_drivers) const;
  void send_sources(Session& session, uint64_t request, const std::vector<Source>& sources,
                    bool last);
  using Totals = std::map<std::string, std::pair<uint64_t, uint64_t>>;
  static void add_totals(const std::byte* home, Totals& totals);
  static void add_totals(const Trace& trace, Totals& totals);

  Sessions& sessions_;
  const scheduler::NodeScheduler& scheduler_;
  const StoreShell& store_;
  const NodeIdentity identity_;
  std::map<JobId, std::deque<Trace>> dead_;
  std::deque<DeadProcess> dead_processes_;
  Totals forgotten_;
  int metrics_port_ = -1;
};

}  // namespace mobula::node
