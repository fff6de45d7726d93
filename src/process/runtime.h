#pragma once
// Runtime: one process's part in Mobula, as a language binding sees it.
//
// It submits tasks and keeps what they return, puts and gets objects, and, in a worker, hands out
// the tasks to execute. It never calls the language: a Gate tells it how to let other threads of the
// interpreter run around a wait and how to learn of Ctrl-C.
//
// Threads: every function may be called by any thread. One lock guards all state; it is never held
//          across a system call, a wait or the language. Order: the interpreter's lock before ours.
//          Two threads of our own, with all signals blocked: the link thread reads the daemon's
//          socket; the reader thread reads rings when nobody waits.
// After fork() in user code the child's runtime is dead: `alive_here()` is false there, and nothing
//          else may be called.
// Limits:  see the constants in wire/frames.h and shm/channel.h.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/resources.h"
#include "base/result.h"
#include "base/time.h"
#include "process/object.h"
#include "shm/memory.h"

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

enum class Waited { kEnough, kTimeout, kInterrupted };

// A function that this process's tasks run; made once, lives as long as the runtime.
struct Function;

struct Submission {
  Function* function = nullptr;
  uint32_t shape = 0;  // From Runtime::shape().
  uint32_t num_returns = 1;
  int32_t retries_max = 3;  // After system failures; -1: without limit.
};

// The lease a worker's task runs under.
struct LeaseInfo {
  uint32_t epoch = 0;
  std::vector<uint32_t> gpus;
  ResourceAmount cpus = 0;
  uint32_t depth = 1;
};

// A function that a caller sent to this worker. `decoded` is the binding's, opaque.
struct ReceivedFunction {
  std::string name;
  StoredValue value;
  std::vector<Object*> refs;  // Of `value`.
  void* decoded = nullptr;
};

// A task that this worker has started and must finish with Runtime::finish_task.
struct ClaimedTask {
  ReceivedFunction* function = nullptr;
  std::vector<std::byte> values;  // value_count wire values, verified.
  std::vector<Object*> refs;      // Every ref named in them, in order; ours until finish_task.
  uint32_t value_count = 0;
  uint32_t keyword_count = 0;
  uint32_t num_returns = 0;
  uint32_t attempt = 0;
  ObjectId first_return;
  const LeaseInfo* lease = nullptr;
  bool lease_changed = false;  // The first task under this lease: set environment from it.
  // The runtime's own.
  CallId call{};
  uint64_t claim_tag = 0;
  uint64_t channel = 0;
  uint16_t claim_slot = 0;
  uint32_t function_number = 0;
  Instant started{};
};

enum class NextTask { kTask, kExit, kInterrupted };

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

struct NodeInfo {
  uint32_t node = 0;
  bool alive = true;
  std::string hostname;
  std::string address;
  uint32_t pid = 0;
  std::string session_directory;
  std::vector<std::pair<std::string, double>> resources;
};

struct TraceEventOut {
  std::string name;
  uint32_t pid = 0;
  uint32_t process = 0;
  uint32_t caller = 0;
  uint64_t call = 0;
  uint64_t start_ns = 0;  // CLOCK_MONOTONIC
  uint64_t end_ns = 0;
  bool failed = false;
};

struct RuntimeOptions {
  bool is_driver = true;
  // A worker whose daemon is gone ends at once, with its whole process group.
  bool worker_dies_with_daemon = true;
  // Of a driver's workers.
  std::string python;
  std::string working_directory;
  std::vector<std::string> sys_path;
  std::vector<std::pair<std::string, std::string>> environment;
  bool log_to_driver = true;
  std::string job_namespace;
};

class Runtime {
 public:
  // Says Hello over `socket` (the caller's end of the daemon's SEQPACKET socket) and starts the
  // threads. kUnavailable: the daemon refused or is gone; the text says why. Waits at most 30 s.
  static Result<std::unique_ptr<Runtime>> connect(shm::Fd socket, RuntimeOptions options,
                                                  Gate& gate);
  virtual ~Runtime() = default;

  virtual bool alive_here() const = 0;  // False in a child made by fork().

  // ---- identity
  virtual NodeId node() const = 0;
  virtual ProcessId process() const = 0;
  virtual JobId job() const = 0;
  virtual std::string session_directory() const = 0;
  // Why nothing works any more ("node daemon (pid 12) is gone"), empty while all is well.
  virtual std::string disconnected_reason() const = 0;

  // ---- tasks
  // `pickled`: one value. The refs it captures are kept for the life of the process.
  virtual Function* define_function(std::string_view name, PackedValues pickled) = 0;
  // The number of a resource request; equal requests get equal numbers.
  virtual uint32_t shape(const ResourceSet& resources) = 0;
  // Returns at once. Fills `returns` (num_returns entries) with objects, each with one count for the
  // caller. Arguments of kind kReference are resolved before the task is sent.
  // kUnavailable: disconnected; nothing was submitted and `arguments` were dropped.
  virtual Result<void> submit(const Submission& submission, PackedValues arguments,
                              std::span<Object*> returns) = 0;

  // ---- objects
  // One value of at most kInlineValueBytesMax. The object has one count for the caller.
  virtual Object* put(PackedValues value) = 0;
  // Room for a stored value of `size` bytes (ValueHeader, refs, payload). May wait for the daemon.
  // kRetryLater: the store is full; the text says who holds how much. kUnavailable: disconnected.
  virtual Result<StoreWrite> begin_store(size_t size, Gate& gate) = 0;
  virtual void abandon_store(StoreWrite& write) = 0;
  // Seals it: an object with one count for the caller. `refs`: those named in the value, with counts.
  virtual Object* put_stored(StoreWrite& write, std::vector<Object*> refs) = 0;
  // Drops one count. Lock-free; any thread, garbage collectors included.
  virtual void drop(Object* object) = 0;

  // Waits until `needed` of `objects` are ready. Called with the interpreter's lock; for the first
  // 20 us it is kept, then released by the gate. No deadline: for ever.
  // An object becomes ready with an error when its value can never come.
  virtual Waited wait(std::span<Object* const> objects, size_t needed,
                      std::optional<Instant> deadline, Gate& gate) = 0;

  // The stored value behind a ready object of kind kInStore: mapped read-only and pinned until
  // unpin(), which any thread may call. May ask the daemon for the segment.
  // kNotFound: the bytes are gone. kUnavailable: disconnected.
  struct Pinned {
    std::span<const std::byte> bytes;  // ValueHeader, refs, payload; checked.
    uint64_t pin = 0;
  };
  virtual Result<Pinned> open_stored(const Object& object, Gate& gate) = 0;
  virtual void unpin(uint64_t pin) = 0;
  // The object of a received value's in-store argument (a worker's kInStore argument values name
  // refs[0]); same rules as above for its bytes.
  virtual Result<Pinned> open_location(const wire::StoreLocation& location, Gate& gate) = 0;

  // ---- a worker's side
  // Waits for a task and starts it. kExit: this worker is to end.
  virtual NextTask next_task(ClaimedTask& task, Gate& gate) = 0;
  // `results`: num_returns values, or one error value if `failed`. Values above the inline limit
  // must have been stored (kind kInStore; `stored` lists their writes, in order). The claimed task's
  // decoded arguments should be dropped before.
  virtual void finish_task(ClaimedTask& task, PackedValues results, bool failed,
                           std::vector<StoreWrite> stored) = 0;

  // ---- driver services
  // Blocks (without the interpreter's lock) until there are lines or the runtime ends (false).
  virtual bool next_log_lines(std::vector<LogLine>& lines) = 0;
  virtual Result<std::vector<std::pair<std::string, double>>> cluster_resources(Gate& gate) = 0;
  virtual Result<std::vector<std::pair<std::string, double>>> available_resources(Gate& gate) = 0;
  virtual Result<std::vector<NodeInfo>> nodes(Gate& gate) = 0;
  virtual Result<std::vector<TraceEventOut>> timeline(Gate& gate) = 0;
  // Ends the job: workers go, their last output arrives, then the connection closes. At most ~10 s.
  virtual void leave(Gate& gate) = 0;

  // For tests: objects, tasks, channels known here.
  virtual std::string debug_state() = 0;
};

}  // namespace mobula::process
