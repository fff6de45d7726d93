#pragma once
// TaskTrace writes down what happens to tasks, in this process's home region, for those who look on: what
// runs here now, what has ended here, and how many of this process's tasks wait (shm/trace.h, home.h).
//
// Threads: guarded by the runtime's lock.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/resources.h"
#include "process/claimed_task.h"
#include "process/state_types.h"
#include "process/task.h"
#include "shm/home.h"
#include "shm/metrics.h"
#include "shm/trace.h"

namespace mobula::process {

class TaskTrace {
 public:
  // Until it is called, nothing is written.
  void open(std::byte* home);

  // `next_index`: of the id of the next object or task that is made here. Calls of an actor may run
  // side by side; then it is not known which of them made what.
  void begin(ClaimedTask& task, uint64_t next_index, bool is_call);
  void end(const ClaimedTask& task, uint64_t next_index, bool failed, Instant now);
  // The task, or one attempt of it, has ended without a record of the worker's. `shape`: null for a
  // call of an actor. `error`: a wire value.
  void end_by_owner(Task& task, const ShapeKey* shape, std::span<const std::byte> error);
  // Where the program's own metrics stand; only after open().
  shm::MetricsWriter& metrics() { return *metrics_; }
  struct LiveCounts {
    uint64_t unfinished;
    uint64_t queued;
    uint64_t in_flight;
    uint64_t calls;
  };
  void publish(const LiveCounts& counts);
  // The thread that executes tasks waits, or waits no more.
  void note_waiting(shm::WaitsIn what);
  // A function that was received may go, and another be found in its place.
  void forget_functions() { last_ = {}; }

 private:
  struct Last {  // The kind of the last task, most often the next one's too.
    const ReceivedFunction* function = nullptr;
    const LeaseInfo* lease = nullptr;
    uint32_t epoch = 0;
    uint32_t name = 0;
  };

  uint32_t name_index(std::string_view name, std::string_view resources);

  shm::HomeHeader* home_ = nullptr;
  std::unique_ptr<shm::TraceWriter> writer_;
  std::unique_ptr<shm::MetricsWriter> metrics_;
  std::unordered_map<std::string, uint32_t> names_;
  Last last_;
  ObjectId current_;  // The last that began.
  uint32_t running_ = 0;
  bool overlapped_ = false;
  bool is_actor_ = false;
};

}  // namespace mobula::process
