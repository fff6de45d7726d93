// Node: what its processes take of memory, and who goes when there is too little; whose heir a driver is.

#include <fmt/format.h>
#include <unistd.h>

#include <set>

#include "node/machine.h"
#include "node/node.h"

namespace mobula::node {

std::vector<memory::Use> Node::memory_uses() {
  std::vector<memory::Use> uses;
  for (const auto& [id, session] : sessions_.all()) {
    if (session->pid == 0 || !session->uplink) continue;  // Not there yet, or gone already.
    memory::Use& use = uses.emplace_back();
    use.pid = session->pid;
    use.bytes = process_memory(session->pid);
    use.what =
        fmt::format("{} of job {}", session->is_driver ? "driver" : "worker", number(session->job));
    if (session->is_driver) continue;
    use.process = id;
    const Channels::Started started = channels_.started(id);
    use.running = started.any;
    use.retriable = started.retriable;
    const auto work = leases_.work_of(id);
    if (!work) continue;
    use.declared = work->memory_bytes;
    use.since = work->since;
  }
  const int own = ::getpid();
  memory::Use& daemon = uses.emplace_back();
  daemon.pid = own;
  daemon.bytes = process_memory(own);
  daemon.what = "node daemon";
  memory::Use& store = uses.emplace_back();
  store.pid = own;
  store.bytes = store_.resident_bytes();
  store.what = "object store";
  return uses;
}

void Node::kill_for_memory(const memory::Kill& kill) {
  workers_.kill(kill.process, kill.text,
                kill.retry ? wire::fb::OutOfMemory::retry : wire::fb::OutOfMemory::give_up);
}

// A driver is told once, however many of its processes wait.
void Node::tell_of_full_store(const std::vector<ProcessId>& waiting, const std::string& text) {
  std::set<ProcessId> drivers;
  for (const ProcessId process : waiting) {
    const Session* session = sessions_.find(process);
    const auto job = session != nullptr ? jobs_.find(session->job) : jobs_.end();
    if (job != jobs_.end()) drivers.insert(job->second.driver);
  }
  for (const ProcessId driver : drivers) logs_.tell(driver, text);
}

// Once a job.
void Node::tell_of_files(const std::vector<ProcessId>& whose, const std::string& text) {
  for (const ProcessId process : whose) {
    const Session* session = sessions_.find(process);
    const auto job = session != nullptr ? jobs_.find(session->job) : jobs_.end();
    if (job == jobs_.end() || std::exchange(job->second.knows_of_files, true)) continue;
    logs_.tell(job->second.driver, text);
  }
}

ProcessId Node::heir_of(JobId id) const {
  const auto job = jobs_.find(id);
  return job == jobs_.end() || job->second.ending ? kDaemonProcess : job->second.driver;
}

}  // namespace mobula::node
