#pragma once
// What a language binding and the runtime hand to each other: values on their way, tasks to execute,
// records about the cluster; and the Gate by which the runtime asks the binding about waits.
//
// Threads: plain values; a Gate is used on the thread that waits.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bundle.h"
#include "base/resources.h"
#include "base/time.h"
#include "process/object.h"
#include "shm/metrics.h"

namespace mobula::process {

// Values on their way from the binding to the runtime: `value_count` wire values one after another.
// Each ref named in them stands in `refs`, in order, with a count of its own (taken by the packer
// with Object::retain; the runtime takes them over, or the destructor of the packer drops them).
struct PackedValues {
  std::vector<std::byte> bytes;
  std::vector<Object*> refs;
  uint32_t value_count = 0;
  uint32_t keyword_count = 0;
};

// What the binding does around waits. release/acquire come in pairs on the calling thread.
class Gate {
 public:
  virtual ~Gate() = default;
  virtual void release() = 0;  // Let other threads of the interpreter run.
  virtual void acquire() = 0;
  virtual bool interrupted() = 0;  // Called with the interpreter's lock: stop waiting?
};

using Deadline = std::optional<Instant>;  // None: no limit.

enum class Waited { kEnough, kTimeout, kInterrupted };
// How many of the objects to wait for: all, or fewer if one of them is an error.
constexpr size_t kAllOrAnError = SIZE_MAX;
// Added to their number by `wait`: those who look on are told that it is not `get`.
constexpr size_t kOfWait = size_t{1} << 62;

// The items of a generator task (process/stream.h).
struct Stream;

class UnhandledErrors;

// A function that this process's tasks run; made once, lives as long as the runtime.
struct Function;

// The process that this worker is, if it is an actor.
struct ActorIdentity {
  ObjectId actor;
  ObjectId spec;
  uint32_t restarts = 0;
  std::string class_name;
  std::string name;
  std::string name_space;
};

// What tasks run in besides what their job says (wire/control.fbs). Without a spec: as who submits them.
struct RuntimeEnvironment {
  std::string spec;
  uint64_t time_limit_ms = 0;
  bool early = false;
  bool operator==(const RuntimeEnvironment&) const = default;
};

// What is needed to make an actor. `handle` and `spec` are objects of the caller's.
struct ActorCreation {
  Object* handle = nullptr;
  Object* spec = nullptr;
  std::string class_name;
  std::string name;  // Empty: none.
  std::string name_space;
  ResourceSet resources;
  ResourceAmount cpus_for_life = 0;
  int32_t restarts_max = 0;
  bool detached = false;
  bool get_if_exists = false;
  bool fails_if_infeasible = false;
  RuntimeEnvironment environment;
  std::optional<BundleRef> bundle;  // None: where the task that makes it says.
};

struct GroupCreation {
  std::string name;  // Empty: none.
  std::string name_space;
  uint8_t strategy = 0;  // wire::fb::GroupStrategy
  std::vector<ResourceSet> bundles;
  bool detached = false;
  bool infeasible = false;
};

struct LeaseLimit {  // Tasks of a group, of which so many run at a time; group 0: as fit.
  uint32_t group = 0, leases_max = 0;
  bool operator==(const LeaseLimit&) const = default;
};

struct Submission {
  Function* function = nullptr;
  uint32_t shape = 0;  // From Runtime::shape().
  uint32_t num_returns = 1;
  int32_t retries_max = 3;   // After system failures; -1: without limit.
  bool streaming = false;    // A generator, with one return: None, or its error.
  Object* actor = nullptr;   // A call of this actor (its handle object); `shape` means nothing.
  bool any_order = false;    // Calls whose arguments are missing let others pass.
  bool concurrent = false;   // The actor executes several calls at a time.
  int64_t pending_max = -1;  // Calls of it that may be pending here; -1: any number.
  uint32_t ahead_max = 0;  // Of a generator: items it may be ahead of its consumer; 0: any number.
  // Of a generator without anybody who takes its items: a value without refs, which becomes that of its
  // return, with the refs of all items in it.
  std::shared_ptr<const std::vector<std::byte>> collected = nullptr;
  std::optional<int32_t> priority =
      std::nullopt;            // None: that of the task that submits it, 0 in a driver.
  uint32_t time_limit_ms = 0;  // The task may run for so long; 0: for ever.
  uint64_t parent = 0;         // ClaimedTask::number of who submits it; 0: what next_task() gave.
};

struct Cancel {
  bool force = false;         // The worker that runs it is killed.
  bool recursive = true;      // With the tasks that it submitted.
  bool only_waiting = false;  // What has started goes on.
  bool only_ask = false;      // Nothing is done: can it be taken back?
};

// Why the task that executes is to end.
enum class Interrupt { kNone, kCancel, kTimeLimit };

// kActor: this worker is an actor from now on.
enum class NextTask { kTask, kExit, kInterrupted, kActor };

// A region of the object store that the caller fills, outside any lock, and then seals.
struct StoreWrite {
  wire::StoreLocation location{};
  std::byte* data = nullptr;  // 64-byte aligned.
  size_t size = 0;
  // Copies `from` to data + offset by the fastest means for this memory (memcpy, or pwrite if its
  // pages were never touched here). Plain stores to `data` are equally right.
  void copy(size_t offset, std::span<const std::byte> from);
  void* internal = nullptr;
};

struct LogLine {
  uint32_t pid = 0;
  std::string name;
  bool is_stderr = false;
  std::string text;
};

using MetricSpec = shm::SeriesSpec;

struct NodeInfo {
  uint32_t node = 0;
  bool alive = true;
  std::string hostname;
  std::string address;
  uint32_t pid = 0;
  std::string session_directory;
  std::vector<std::pair<std::string, double>> resources;
  int metrics_port = -1;
};

struct RuntimeOptions {
  bool is_driver = true;
  // Asks the daemon and does nothing else: it has no job. `is_driver` is true, too.
  bool is_observer = false;
  // Of a session that this process did not start.
  std::string token;
  // A worker whose daemon is gone ends at once, with its whole process group.
  bool worker_dies_with_daemon = true;
  // Of a driver's workers.
  std::string python;
  std::string working_directory;
  std::vector<std::string> sys_path;
  std::vector<std::pair<std::string, std::string>> environment;
  bool log_to_driver = true;
  // Tasks that no node can ever run fail; else they wait for a node that can.
  bool infeasible_is_error = false;
  std::string job_namespace;
  RuntimeEnvironment runtime_environment;
  // Of finished tasks that are kept to make lost results again.
  uint64_t lineage_bytes_max = 64ULL << 20;
  // Each object is remembered with the line that made it (note_call_site).
  bool records_call_sites = false;
  // Where the errors of dropped refs go; null: nowhere.
  std::shared_ptr<UnhandledErrors> unhandled;
  // How often a task is tried again whose worker was killed because memory ran out.
  uint32_t oom_retries_max = 15;
};

}  // namespace mobula::process
