#pragma once
// RuntimeState: what a RuntimeImpl remembers. It does nothing by itself.
//
// Threads: `lock_` guards every member below "guarded by lock_".

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "core/objects/loss.h"
#include "core/objects/ref_table.h"
#include "core/tasks/dispatcher.h"
#include "core/tasks/lineage.h"
#include "process/actor_calls.h"
#include "process/channel.h"
#include "process/clock.h"
#include "process/deferred.h"
#include "process/driver_lines.h"
#include "process/error_values.h"
#include "process/execution.h"
#include "process/notifications.h"
#include "process/object_pool.h"
#include "process/output_label.h"
#include "process/question.h"
#include "process/recycled.h"
#include "process/runtime.h"
#include "process/store_client.h"
#include "process/task_trace.h"
#include "process/uplink.h"
#include "process/waiter.h"
#include "shm/home.h"
#include "wire/control.h"

namespace mobula::process {

class LiveObjects;

struct RuntimeState {
  RuntimeState(shm::Fd socket, RuntimeOptions options);

  // What the task asks for, and where; null: a call of an actor asks for nothing.
  const ShapeKey* shape_of(const Task& task) const {
    return task.shape == 0 ? nullptr : &shapes_.at(task.shape - 1);
  }

  // ---- constant after start()
  shm::Fd socket_;
  RuntimeOptions options_;
  const int pid_;
  shm::Mapping bell_memory_;
  shm::Mapping home_memory_;
  shm::Mapping daemon_bell_memory_;
  shm::Fd daemon_event_;
  shm::BellPage* bell_ = nullptr;
  shm::DaemonBell* daemon_bell_ = nullptr;
  NodeId node_{};
  ProcessId process_{};
  JobId job_{};
  std::string session_directory_;
  uint32_t depth_ = 1;  // Of the tasks that are submitted here; a worker's changes with the lease.
  int32_t priority_ = 0;  // The same, if they have none of their own;
  BundleRef children_;    // and this, if they name no placement group:
  BundleRef bundle_;      // that in which the task that executes is, if it wants that.
  std::atomic<PlacementGroupId> captured_{kNoGroup};  // Of children_; read without the lock.

  mutable std::mutex lock_;
  // ---- guarded by lock_
  ObjectPool pool_;
  Recycled<Task> tasks_;
  Deferred* deferred_ = nullptr;  // Of the thread that holds the lock.
  std::unique_ptr<Uplink> uplink_;
  tasks::Dispatcher dispatcher_;
  tasks::Effects effects_;
  tasks::Effects carrying_;            // Being carried out; kept for its memory.
  std::vector<Task*> startable_;       // Their last argument has arrived.
  std::vector<Object*> unreferenced_;  // Their last count was dropped.
  bool freeing_ = false;
  objects::RefTable refs_;
  tasks::Lineage lineage_;
  tasks::Lineage::Effects lineage_effects_;  // Not carried out yet.
  std::unordered_map<CallId, Task*> kept_;   // Finished, known to lineage_.
  std::unordered_map<ObjectId, Object*, ObjectIdHash> results_kept_;    // Of theirs: the results,
  std::unordered_map<ObjectId, Object*, ObjectIdHash> arguments_kept_;  // and the arguments.
  std::vector<Task*> to_rerun_;                                         // Prepared to run again.
  std::vector<ObjectId> to_revive_;                                     // To be asked for.
  std::vector<std::pair<Instant, Task*>> delayed_;  // To be tried again, but not before.
  // Tasks of dead processes, by their first return; functions of theirs, by what is pickled.
  std::unordered_map<ObjectId, Task*, ObjectIdHash> adopted_;
  std::map<std::string, Function*, std::less<>> adopted_functions_;
  std::vector<ObjectId> refs_ahead_;  // Of a value that is about to arrive.
  std::string disconnected_;          // Why, once it happened.
  bool leaving_ = false;
  std::optional<bool> goodbye_;  // Said; does the daemon stay?
  bool exit_asked_ = false;
  uint64_t next_index_ = 1;
  uint64_t next_call_ = 1;
  std::vector<std::unique_ptr<Function>> functions_;
  std::vector<Request> requests_;  // What the binding knows as shape n is at n - 1.
  std::vector<ShapeKey> shapes_;   // The dispatcher's shape n is at n - 1.
  ShapeNumbers shape_numbers_;
  size_t shapes_in_groups_ = 0;  // How many of them are.
  std::vector<bool> shapes_told_;
  std::map<uint32_t, std::string> infeasible_;  // Shapes whose tasks fail, and why.
  std::map<ChannelId, std::unique_ptr<OutboundChannel>> outbound_;
  std::map<ChannelId, std::unique_ptr<InboundChannel>> inbound_;
  std::array<ChannelEnd*, shm::kBellBits> by_bit_{};
  std::vector<OutboundChannel*> results_ready_;
  std::deque<InboundChannel*> tasks_ready_;
  std::vector<std::pair<Instant, std::unique_ptr<ChannelEnd>>> retired_;
  std::unordered_map<ObjectId, Object*, ObjectIdHash> known_;  // Shared and foreign objects.
  // With options_.records_call_sites: where objects were made, as a number in call_sites_, and when.
  struct Origin {
    uint32_t call_site = 0;
    const std::string* site = nullptr;  // In call_sites_; null: there are too many.
    Instant made{};
  };
  std::unordered_map<const Object*, Origin> origins_;
  std::map<std::string, uint32_t, std::less<>> call_sites_;  // Numbered from 1.
  Task* live_tasks_ = nullptr;  // Submitted and not done; linked by live_previous, live_next.
  Task* looked_at_ = nullptr;   // Of that list, the next that answer_state_wanted() looks at.
  uint64_t unfinished_ = 0;     // How many they are,
  uint64_t live_calls_ = 0;     // and how many of them are calls of actors.
  uint64_t waits_ = 0;          // Entries into wait(), for the reader thread.
  bool senders_waiting_ = false;
  Waiter* reader_ = nullptr;  // Whoever polls for all.
  std::vector<Waiter*> parked_;
  bool reader_sleeps_ = false;   // On the bell, or is about to.
  bool poked_ = false;           // It has something to see to that came since.
  bool held_look_ = false;       // A thread looks for news and keeps the interpreter's lock.
  SpinCredit held_credit_;       // Of such looks.
  Duration interpreter_wait_{};  // For that lock after a wait, lately.
  Instant pumped_{};             // When the bell was last looked at.
  Instant audited_{};            // When all channels were last looked at, whatever the bell said.
  std::map<uint64_t, Question*> questions_;
  uint64_t next_question_ = 1;
  std::multimap<SegmentId, Question*> openings_;
  // Values whose place the daemon was asked for, and who waits for the answer.
  std::map<std::array<uint32_t, 3>, std::vector<Question*>> lookups_;
  std::unique_ptr<StoreClient> store_;
  std::condition_variable answered_;
  DriverLines lines_;
  Notifications notifications_;
  std::unique_ptr<ActorRole> role_;  // Of an actor.
  Execution execution_;              // Of a worker, like all that follows.
  Clock clock_;
  const InboundChannel* lease_of_last_ = nullptr;
  TaskTrace trace_;
  OutputLabel output_label_;  // The executing thread's.

  // ---- their own synchronization
  std::atomic<Object*> dropped_{nullptr};
  std::atomic<bool> stop_{false};
  std::atomic<uint32_t> reader_word_{0};  // The reader thread sleeps on it for good.
  std::atomic<bool> reader_asleep_{false};
  SpinCredit get_credit_;    // Of the thread that reads; races are harmless, values are bounded.
  SpinCredit brief_credit_;  // Of look_briefly().
  SpinCredit task_credit_;
  SpinCredit loop_credit_;  // Of take_calls(); with the interpreter's lock.

  std::thread link_thread_;
  std::thread reader_thread_;
};

}  // namespace mobula::process
