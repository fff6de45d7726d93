#pragma once
// Dispatcher decides which leased worker gets which of an owner's tasks, and how many leases to want.
//
// It touches no ring and no daemon. Calls append to Effects, which the process runtime carries out
// under the same lock, in the order: revoke, target, give_back, push.
//
//   task:   held ──submit──► queued ──push──► in flight ──result──► held (done)
//                              ▲ ▲──revoked───┘  │
//                              └─────lost────────┘ (worker died before it started the task)
//   lease:  idle ◄──► busy;  blocked (its worker waits in get): takes nothing, keeps what started;
//           reclaimed: takes nothing, given back when empty.
//
// Policy (measured, see docs/decisions): a lease holds as much estimated work as fills
// Options::load_per_lease, one task of unknown or longer run time. A queued task goes to an idle
// lease, else to the least loaded one with room. When a lease is idle and nothing is queued, half of
// what the most loaded lease has not started is taken back for it. Functions of one shape take
// turns. Unmet demand is a level told to the daemon (how many leases are wanted in all).
//
// Threads: none. Owned by the process runtime, called under its lock.
// Time:    only from `now` arguments.
// Limits:  Options::in_flight_max tasks a lease.

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/tasks/task_list.h"

namespace mobula::tasks {

struct Shape;

struct Lease {
  LeaseId id{};
  ChannelId channel{};
  uint32_t epoch = 0;
  Shape* shape = nullptr;
  TaskList in_flight;  // In the order in which the worker gets them.
  Duration load{0};
  Instant idle_since{0};
  Instant head_since{0};  // When the first in flight can have started at the earliest.
  bool blocked = false;
  bool reclaimed = false;
  bool stalled = false;       // Its ring is full; cleared by on_drained.
  bool overrun = false;       // Its head runs longer than load_per_lease with tasks behind it.
  bool revoke_asked = false;  // A Revoke effect for its tasks is out.
};

struct Push {
  TaskNode* task;
  Lease* lease;
};
struct TargetChange {
  uint32_t shape;
  uint32_t target;
};

struct Effects {
  std::vector<TaskNode*> revoke;  // Try to take back; report on_revoked for each that succeeded.
  std::vector<TargetChange> target;
  std::vector<LeaseId> give_back;
  std::vector<Push> push;

  bool empty() const {
    return revoke.empty() && target.empty() && give_back.empty() && push.empty();
  }
  void clear() {
    revoke.clear();
    target.clear();
    give_back.clear();
    push.clear();
  }
};

class Dispatcher {
 public:
  struct Options {
    Duration load_per_lease = std::chrono::milliseconds(2);
    uint32_t in_flight_max = 100;
    Duration idle_lease_kept = std::chrono::milliseconds(100);
    // Less estimated work than this is not worth moving to an idle worker, unless its head overruns.
    Duration steal_load_min = std::chrono::microseconds(100);
    uint32_t target_max = 4096;
  };

  explicit Dispatcher(Options options);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // A task whose arguments are ready. Its shape and function are set.
  void submit(TaskNode& task, Instant now, Effects& effects);
  // Never wants more leases of this shape than that: so many of its tasks run at a time, and they start
  // in the order of submission. Call it before the first task.
  void limit_leases(uint32_t shape, uint32_t leases_max);
  // A queued task is withdrawn (cancelled).
  void withdraw(TaskNode& task);

  // kNotFound never happens: an unknown lease or shape is the daemon's mistake and is ignored.
  void on_lease_granted(LeaseId id, uint32_t shape, ChannelId channel, uint32_t epoch, Instant now);
  void on_lease_reclaim(LeaseId id);
  // The worker of this channel is dead. Its tasks in flight have been reported lost or done before.
  void on_channel_gone(ChannelId channel);

  // The task's result is in. The task is the caller's again.
  void on_result(TaskNode& task, Duration run_time, Instant now);
  // A Revoke succeeded, or a dead worker had not started the task: it is queued again, in front.
  void on_revoked(TaskNode& task);
  // The push could not be carried out: the ring is full. The task is queued again, in front.
  void on_push_failed(TaskNode& task);
  // The task will not come back from the worker; it is the caller's again.
  void on_lost(TaskNode& task);
  void on_drained(ChannelId channel);
  void on_blocked(ChannelId channel, bool blocked);

  // After a batch of events: fills leases, takes back, asks for leases, gives idle ones back.
  void settle(Instant now, Effects& effects);
  // When settle() should be called at the latest although nothing happened.
  std::optional<Instant> next_deadline() const;

  // For those who look on. Each is called once for each, in no order that means anything.
  struct ShapeCounts {
    uint32_t shape = 0;
    uint64_t queued = 0;
    uint64_t in_flight = 0;
    uint32_t leases = 0;
    uint32_t blocked_leases = 0;
    uint32_t target = 0;  // As it was last told.
  };
  std::vector<ShapeCounts> shape_counts() const;
  struct FunctionCounts {
    const FunctionState* function = nullptr;
    uint64_t queued = 0;
  };
  std::vector<FunctionCounts> queued_by_function() const;

  bool has_queued() const { return queued_ != 0; }
  uint64_t queued() const { return queued_; }
  uint64_t in_flight() const { return in_flight_; }
  Lease* lease_of(ChannelId channel);

  // Aborts if the books do not balance. O(everything); for tests.
  void check_invariants() const;

 private:
  Shape& shape_of(uint32_t number);
  FunctionQueue& queue_of(Shape& shape, FunctionState& function);
  Duration estimate(const TaskNode& task) const;
  void enqueue(TaskNode& task, bool front);
  TaskNode* next_queued(Shape& shape);
  void dequeue(Shape& shape, TaskNode& task);
  bool has_room(const Lease& lease, Duration counted) const;
  Lease* choose(Shape& shape, Duration counted);
  void fill(Shape& shape, Instant now, Effects& effects);
  void place(TaskNode& task, Lease& lease, Instant now, Effects& effects);
  void leave_lease(TaskNode& task);
  void note_overruns(Shape& shape, Instant now);
  void steal(Shape& shape, Effects& effects);
  void take_back_all(Lease& lease, Effects& effects);
  uint32_t wanted(const Shape& shape) const;
  void tell_target(Shape& shape, Effects& effects);
  void give_back(Shape& shape, Instant now, Effects& effects);
  void mark_dirty(Shape& shape);

  const Options options_;
  std::map<uint32_t, std::unique_ptr<Shape>> shapes_;
  std::map<ChannelId, std::unique_ptr<Lease>> leases_;
  std::vector<Shape*> dirty_;
  uint64_t queued_ = 0;
  uint64_t in_flight_ = 0;
};

}  // namespace mobula::tasks
