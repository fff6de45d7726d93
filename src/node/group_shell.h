#pragma once
// GroupShell turns the records of processes about placement groups into events of NodeScheduler, and
// tells those who wait for a group what became of it.
//
// Threads: the loop's.
// Limits:  kGroupWaitsMax waits of one process.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "node/lease_shell.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr size_t kGroupWaitsMax = 10'000;

class GroupShell {
 public:
  GroupShell(Sessions& sessions, LeaseShell& leases) : sessions_(sessions), leases_(leases) {}

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);
  // It has its bundles, or was removed.
  void on_changed(PlacementGroupId group);
  void on_process_gone(ProcessId process) { waits_.erase(process); }
  // [{"group": 1, "state": "CREATED", ...}, ...]
  std::string json() const;

 private:
  Result<void> on_create(const Session& session, const wire::fb::GroupCreate& record);
  void on_wait(const Session& session, const wire::fb::GroupWait& record);
  void answer(ProcessId process, uint64_t request, PlacementGroupId group,
              const std::string& error);
  // True if there is something to say about it now.
  bool answer_wait(ProcessId process, uint64_t request, PlacementGroupId group);

  Sessions& sessions_;
  LeaseShell& leases_;
  std::map<ProcessId, std::set<std::pair<PlacementGroupId, uint64_t>>> waits_;  // Their requests.
};

}  // namespace mobula::node
