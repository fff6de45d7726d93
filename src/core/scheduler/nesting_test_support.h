#pragma once
// NestedPrograms runs whole programs of nested tasks on a simulated node: owners queue tasks, hold and
// give back leases; workers run them in simulated time, start children and wait for them. Only the
// NodeScheduler is real. Every message between a process and the daemon takes `latency`.
//
// Like real owners these do not lower a target for a lease that is idle: they keep it for `idle_kept`
// and give it back sooner only when asked.
//
// A task works for half its time, starts its children, waits for all of them (or for some), and works
// for the other half. A worker that has waited for `blocked_after` says so.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/scheduler/scheduler.h"

namespace mobula::scheduler::testing_support {

struct TaskSpec {
  ResourceSet resources;
  Duration work{0};
  uint32_t children = 0;
  const TaskSpec* child = nullptr;
  // Waits, like for children, until this many tasks of this spec have been started. 0: does not.
  uint32_t rendezvous = 0;
  uint32_t children_awaited = UINT32_MAX;  // It goes on when so many have ended, or all.
  BundleRef bundle{};                      // Where it runs.
};

class NestedPrograms {
 public:
  static constexpr Duration latency = std::chrono::microseconds(50);
  static constexpr Duration blocked_after = std::chrono::milliseconds(1);
  Duration idle_kept = std::chrono::milliseconds(2);
  static constexpr Duration worker_start = std::chrono::milliseconds(1);

  explicit NestedPrograms(NodeScheduler::Options options);

  ProcessId add_driver(uint32_t job);
  // The driver submits `count` tasks now. Their number in the order of submission counts from 0.
  void submit(ProcessId driver, const TaskSpec& spec, uint32_t count);
  // Runs until everything submitted is done, or until `limit` from now: then false.
  bool run(Duration limit);

  uint32_t done(ProcessId driver) const;
  Instant now() const { return now_; }
  Instant finished_at(ProcessId driver) const { return processes_.at(driver).last_done; }
  uint32_t workers_peak() const { return workers_peak_; }
  // The most tasks that ever worked at once: not waiting, whether or not the daemon knows.
  uint32_t working_peak() const { return working_peak_; }
  NodeScheduler& scheduler() { return scheduler_; }

 private:
  struct Task {
    const TaskSpec* spec = nullptr;
    uint32_t depth = 0;
    ProcessId owner{};
    ProcessId worker{};
    uint32_t waiting_for = 0;
    bool is_blocked = false;
    uint64_t wait = 0;  // Which wait it is in; 0: none.
  };
  using Work = std::shared_ptr<Task>;
  struct HeldLease {
    ShapeId shape{};
    ProcessId worker{};
    bool is_busy = false;
    bool is_reclaimed = false;
    uint64_t idle_turn = 0;
  };
  struct Shape {
    ResourceSet resources;
    uint32_t depth = 0;
    BundleRef bundle;
    uint32_t sent_target = 0;
    std::deque<Work> queue;
  };
  struct Process {
    Work running;
    std::vector<Shape> shapes;  // ShapeId is the index + 1.
    std::map<LeaseId, HeldLease> leases;
    uint32_t submitted = 0;
    uint32_t done = 0;
    Instant last_done{0};
    bool is_driver = false;
  };

  void after(Duration delay, std::function<void()> event);
  void tell_daemon(std::function<void()> record);
  void schedule();
  void carry_out(const Effect& effect);

  void enqueue(ProcessId owner, Work task);
  void pump(ProcessId owner);
  void tell_targets(ProcessId owner);
  void give_back(ProcessId owner, LeaseId lease);
  void start_task(ProcessId owner, LeaseId lease, const Work& task);
  void work(const Work& task, void (NestedPrograms::*then)(const Work&));
  void start_children(const Work& task);
  void wait(const Work& task);
  void child_done(const Work& task);
  void finish(const Work& task);

  NodeScheduler scheduler_;
  Instant now_ = std::chrono::seconds(1);
  uint64_t next_event_ = 0;
  uint64_t next_wait_ = 1;
  std::map<std::pair<Instant, uint64_t>, std::function<void()>> events_;
  std::map<ProcessId, Process> processes_;
  std::map<Task*, LeaseId> lease_of_;
  std::map<const TaskSpec*, std::vector<Work>> rendezvous_;
  std::map<const TaskSpec*, uint32_t> started_;
  std::optional<Instant> deadline_;
  uint32_t workers_peak_ = 0;
  uint32_t working_ = 0;
  uint32_t working_peak_ = 0;
};

}  // namespace mobula::scheduler::testing_support
