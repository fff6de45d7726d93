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

#include "base/result.h"
#include "process/claimed_task.h"
#include "process/key_values.h"
#include "process/loop_queues.h"
#include "process/state_types.h"
#include "shm/memory.h"

namespace mobula::process {

// What a cancelled task's error says: its id (48 hexadecimal digits), NUL, a sentence.
std::string cancelled_text(std::string_view function, ObjectId first_return);
// What the error of a task says that ran past its time limit.
std::string time_limit_text(std::string_view function, uint32_t limit_ms);

class OutputLabel;

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
  virtual std::string job_namespace() const = 0;
  // Why nothing works any more ("node daemon (pid 12) is gone"), empty while all is well.
  virtual std::string disconnected_reason() const = 0;

  // ---- tasks
  // `pickled`: one value. The refs it captures are kept for the life of the process.
  // `group`: of an actor's method, one more than the number of its concurrency group.
  virtual Function* define_function(std::string_view name, PackedValues pickled,
                                    uint16_t group = 0) = 0;
  // The number of a request for resources in an environment; equal ones get equal numbers.
  virtual uint32_t shape(const ResourceSet& resources, const RuntimeEnvironment& environment = {},
                         const std::optional<BundleRef>& bundle = {},
                         const LeaseLimit& limit = {}) = 0;
  // Returns at once. Fills `returns` (num_returns entries) with objects, each with one count for the
  // caller. Arguments of kind kReference are resolved before the task is sent.
  // kUnavailable: disconnected; nothing was submitted and `arguments` were dropped.
  virtual Result<void> submit(const Submission& submission, PackedValues arguments,
                              std::span<Object*> returns) = 0;

  // ---- actors
  // Makes an actor whose handle object is `creation.handle`. With a name it waits for the answer: an
  // object with a count for the caller, another one than the handle if such an actor exists and that is
  // what was asked for. kInvalidArgument: the name is taken.
  virtual Result<Object*> create_actor(const ActorCreation& creation, Gate& gate) = 0;
  // The handle object of a named actor, with a count for the caller; nullptr: there is none.
  virtual Result<Object*> find_actor(const std::string& name, const std::string& name_space,
                                     Gate& gate) = 0;
  // (name, namespace) of every named actor; of one namespace if it is not empty.
  virtual Result<std::vector<std::pair<std::string, std::string>>> list_actors(
      const std::string& name_space, Gate& gate) = 0;
  virtual void kill_actor(Object* actor, bool no_restart) = 0;
  // Is it what a call that this process made will return?
  virtual bool is_pending_call(const Object& object, const Object* actor = nullptr) = 0;

  // ---- placement groups
  // kInvalidArgument: the name is taken, or there can be no such group; the text says which.
  virtual Result<PlacementGroupId> create_group(const GroupCreation& creation, Gate& gate) = 0;
  virtual void remove_group(PlacementGroupId group) = 0;
  // Waits until it has its resources; false: not yet. kNotFound: there is none, or not any more.
  virtual Result<bool> wait_for_group(PlacementGroupId group, Duration patience, Gate& gate) = 0;
  // All of the node, as JSON.
  virtual Result<std::string> groups(Gate& gate) = 0;

  // The node's table of keys and values. kInvalidArgument, kRetryLater: refused, the text says why.
  virtual Result<KeyValueOut> key_value(const KeyValueCall& call, Gate& gate) = 0;
  // Where the task that executes is, or the actor that this process is.
  virtual BundleRef bundle() = 0;
  // The placement group that captures what this process submits without naming one. Costs no lock.
  virtual PlacementGroupId captured() const = 0;

  // ---- an actor's own side
  // After NextTask::kActor.
  virtual ActorIdentity actor_identity() = 0;
  virtual LeaseInfo actor_lease() = 0;
  // An object of any process, which something keeps alive during this call, with a count.
  virtual Object* adopt_object(ObjectId id) = 0;
  // It was made, has so many concurrency groups, and calls itself `repr`, if that is not empty. Calls
  // come now.
  virtual void actor_made(uint32_t groups, const std::string& repr) = 0;
  // Its constructor raised `error`: letters for Python, or empty. The daemon ends this process.
  virtual void actor_failed(const std::string& text, std::span<const std::byte> error) = 0;
  // It is about to end of its own will.
  virtual void actor_exiting(const std::string& reason) = 0;
  // Waits for a call of this group (from 0) and starts it. Several threads may do so.
  virtual NextTask next_call(uint32_t group, ClaimedTask& task, Gate& gate) = 0;
  // The same without waiting for more than a `look`, for up to `most` that have come. False: the end.
  virtual bool take_calls(uint32_t group, size_t most, Duration look,
                          std::vector<std::unique_ptr<ClaimedTask>>& calls) = 0;
  // Waits, without the interpreter's lock, for a running call to be cancelled. False: the end.
  virtual bool next_cancelled_call(uint64_t& channel, uint64_t& claim_tag) = 0;
  virtual bool is_cancelled(const ClaimedTask& call) = 0;
  // Waits, without the interpreter's lock, until there is a call of the group, or the end (false).
  virtual bool wait_for_call(uint32_t group) = 0;

  // A generator (submission.streaming). `returns` has one entry, which is ready when all items are.
  virtual Result<std::shared_ptr<Stream>> submit_generator(const Submission& submission,
                                                           PackedValues arguments,
                                                           std::span<Object*> returns) = 0;
  // The next item, with a count for the caller: pending, ready, or is_end_of_stream() once ready.
  virtual Object* next_item(Stream& stream) = 0;
  // The item that next_item() gave is taken. False: another thread was faster.
  virtual bool take_item(Stream& stream, const Object* item) = 0;
  // Nobody takes items any more: those that come are dropped.
  virtual void abandon_stream(Stream& stream) = 0;
  static bool is_end_of_stream(const Object& object);

  // Cancels the task that makes `object`. One that has not started fails at once: true. A running one is
  // interrupted, or whatever `how` says. Does nothing for an object that is ready or that no task
  // makes. Never waits.
  virtual bool cancel(Object* object, const Cancel& how) = 0;

  // ---- objects
  // One value of at most kInlineValueBytesMax. The object has one count for the caller.
  virtual Object* put(PackedValues value) = 0;
  // Room for a stored value of `size` bytes (ValueHeader, refs, payload). May wait for the daemon.
  // kRetryLater: the store is full; the text says who holds how much. kDiskFull: so is the disk that
  // values are spilled to. kUnavailable: disconnected. kCancelled: as the gate says.
  virtual Result<StoreWrite> begin_store(size_t size, Gate& gate) = 0;
  virtual void abandon_store(StoreWrite& write) = 0;
  // Seals it: an object with one count for the caller. `refs`: those named in the value, with counts.
  virtual Object* put_stored(StoreWrite& write, std::vector<Object*> refs) = 0;
  // Where in the program these were made, and that it was now: for `mobula memory`. Does nothing
  // unless options.records_call_sites.
  virtual void note_call_site(std::span<Object* const> objects, std::string_view site) = 0;
  // Drops one count. Lock-free; any thread, garbage collectors included.
  virtual void drop(Object* object) = 0;

  // Waits until `needed` of `objects` are ready; kAllOrAnError: all, or one with an error. Called
  // with the interpreter's lock; for the first 20 us it is kept, then released by the gate. No
  // deadline: for ever.
  // An object becomes ready with an error when its value can never come.
  virtual Waited wait(std::span<Object* const> objects, size_t needed,
                      std::optional<Instant> deadline, Gate& gate) = 0;

  // The stored value behind a ready object of kind kInStore: mapped read-only and pinned until
  // unpin(), which any thread may call. May ask the daemon for the segment.
  // kNotFound: the bytes are gone. kRetryLater, kDiskFull: they are on disk, and there is no room to
  // read them back. kUnavailable: disconnected.
  struct Pinned {
    std::span<const std::byte> bytes;  // ValueHeader, refs, payload; checked.
    uint64_t pin = 0;
  };
  // kRetryLater: also if it could not be read back before `deadline`.
  virtual Result<Pinned> open_stored(const Object& object, Deadline deadline, Gate& gate) = 0;
  // The values of these are about to be opened, in this order: those that were spilled to disk should
  // be read back. Never waits.
  virtual void prefetch(std::span<Object* const> objects) = 0;
  virtual void unpin(uint64_t pin) = 0;
  // open_stored() says that the bytes of this object are gone: they are to be made again. Called with
  // the interpreter's lock, held since then. The object is pending afterwards (the one case in which
  // a ready object ceases to be), and becomes ready with a new value, or with an error that says
  // why there is none. Does nothing if somebody was faster.
  virtual void recover(Object& object, const wire::StoreLocation& location) = 0;
  // The object of a received value's in-store argument (a worker's kInStore argument values name
  // refs[0]); same rules as above for its bytes.
  virtual Result<Pinned> open_location(const wire::StoreLocation& location, Deadline deadline,
                                       Gate& gate) = 0;

  // Tells when it is ready, through next_notified() or a loop's `queue`; without an object at once.
  virtual void notify(Object* object, uint64_t token, uint32_t queue) = 0;
  // Waits for tokens. False: the runtime has ended and nothing is left to tell. One thread at a time,
  // without the interpreter's lock. It reads for the loops, too.
  virtual bool next_notified(std::vector<uint64_t>& tokens, Deadline deadline) = 0;
  virtual LoopQueues& loop_queues() = 0;
  // Is the object ready? Waits for at most 50 us if that has paid off lately; without a gate not at all.
  virtual bool look_briefly(const Object& object, Gate* gate) = 0;

  // ---- a worker's side
  // Waits for a task and starts it. kExit: this worker is to end.
  virtual NextTask next_task(ClaimedTask& task, Gate& gate) = 0;
  // Its decoded arguments should be dropped before.
  virtual void finish_task(ClaimedTask& task, TaskOutcome outcome) = 0;
  // Both, at less cost.
  virtual NextTask finish_and_next(ClaimedTask& task, TaskOutcome, Instant now, Gate& gate) = 0;
  // One item of a generator. Waits while the task is too far ahead of its consumer. kEnough: go on;
  // kTimeout: nobody wants more items; kInterrupted: as the gate says.
  virtual Waited yield_item(ClaimedTask& task, PackedValues item, std::vector<StoreWrite> stored,
                            Gate& gate) = 0;
  // After the task that executes, next_task() is kExit as soon as the results are out and no task
  // that was submitted here is pending.
  virtual void retire() = 0;
  // The thread that executes tasks is sent `signal` when its task is cancelled or has run past its
  // time limit. In the handler, or later on that thread, take_interrupt() tells once whether the task
  // that runs is the one meant; its own tasks are cancelled by then, if that was wanted. A task that
  // is past its limit and goes on regardless is ended with this process, after a grace.
  virtual void interrupt_with(int signal) = 0;
  virtual Interrupt take_interrupt() = 0;
  // Was the task that executes interrupted for its time limit? Then it has failed.
  virtual bool is_past_time_limit() const = 0;

  // Whose output this process's streams carry. For the thread that executes tasks.
  virtual OutputLabel& output_label() = 0;

  // ---- driver services
  // Blocks (without the interpreter's lock) until there are lines or the runtime ends (false).
  virtual bool next_log_lines(std::vector<LogLine>& lines) = 0;
  virtual Result<std::vector<std::pair<std::string, double>>> cluster_resources(Gate& gate) = 0;
  virtual Result<std::vector<std::pair<std::string, double>>> available_resources(Gate& gate) = 0;
  virtual Result<std::vector<NodeInfo>> nodes(Gate& gate) = 0;
  // Tasks that ran, and those that run now, of all jobs of the node; in the order of their start.
  virtual Result<std::vector<TraceEventOut>> timeline(Gate& gate) = 0;
  virtual Result<StateOut> state(const StateRequest& request, Gate& gate) = 0;
  // The program's own metrics, which the daemon shows to Prometheus. One thread at a time; the
  // interpreter's lock sees to that. Not locked otherwise, as nothing else touches them.
  virtual shm::MetricsWriter& metrics() = 0;
  // Ends the job: workers go, their last output arrives, then the connection closes. At most ~10 s.
  // False: the daemon stays, for other drivers.
  virtual bool leave(Gate& gate) = 0;

  // For tests: is there a value of this object, here or at the daemon? Where does a stored one lie?
  virtual Result<bool> has_value(ObjectId id, Gate& gate) = 0;
  virtual std::optional<wire::StoreLocation> location(const Object& object) = 0;
  // For tests: objects, tasks, channels known here.
  virtual std::string debug_state() = 0;
};

}  // namespace mobula::process
