#pragma once
// Function and Task: what this process knows of the functions and tasks that it submits.
//
// Threads: guarded by the runtime's lock.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/resources.h"
#include "core/actors/call_queue.h"
#include "core/tasks/item_rebuild.h"
#include "core/tasks/task_list.h"
#include "process/object.h"
#include "process/returns.h"
#include "process/runtime_types.h"
#include "process/stream.h"

namespace mobula::process {

struct Function : tasks::FunctionState {
  uint32_t number = 0;
  uint16_t group = 0;              // Of a method: one more than its concurrency group.
  std::string name;                // As people see it.
  std::string full_name;           // With its own name (base/function_name.h).
  std::vector<std::byte> pickled;  // One wire value.
  std::vector<Object*> refs;       // Captured refs, kept for the life of the process.
};

struct ActorCalls;
struct OutboundChannel;

// In Task::slot: it has started, and needs none any more.
constexpr uint16_t kNoSlot = 0xFFFF;

// A request at the nesting depth of the task that makes it, with a priority.
struct ShapeKey {
  ResourceSet resources;
  uint32_t depth;
  int32_t priority;
  RuntimeEnvironment environment;
  BundleRef bundle;
};

// What the binding asks for. Without a bundle: where the task that submits it says.
struct Request {
  ResourceSet resources;
  RuntimeEnvironment environment;
  std::optional<BundleRef> bundle;
  LeaseLimit limit;
  bool operator==(const Request&) const = default;
};

// By request, depth, priority, and the placement group of those that say nothing.
using ShapeNumbers = std::map<std::tuple<uint32_t, uint32_t, int32_t, PlacementGroupId>, uint32_t>;

// Items of a generator that were lost, and what is known of the run that makes them again.
struct ItemRerun {
  tasks::ItemRebuild plan;
  std::map<uint64_t, Object*> objects;  // Those that are lost, by number, each with a count.
  Object* error = nullptr;              // With which the run ended early; with a count.
  Task* run = nullptr;                  // The run.
};

// Its return objects each have one count of the task until it is done.
struct Task : actors::CallNode {
  CallId call{};
  std::vector<std::byte> arguments;  // Wire values; kReference ones are substituted when sent.
  std::vector<Object*> refs;         // Every ref named in them, pinned until the result is in.
  Returns returns;
  ObjectId first_return;
  uint64_t tag = 0;  // Valid in flight, with `slot`.
  uint32_t value_count = 0;
  uint32_t keyword_count = 0;
  uint32_t unresolved = 0;  // Reference arguments whose values are not here yet.
  int32_t retries_left = 0;
  uint32_t time_limit_ms = 0;  // Of each attempt; 0: none.
  uint16_t slot = 0;
  uint16_t attempt = 0;
  bool has_references = false;
  bool kept = false;         // Known to the lineage, by lineage_key().
  bool adopted = false;      // A dead process submitted it.
  bool rebuilding = false;   // It is run again for results that were lost.
  bool resting = false;      // It is over, and kept.
  bool answered = false;     // Its worker said how it ended.
  bool yields = false;       // Of a generator, also when it has no stream any more.
  uint16_t oom_retries = 0;  // Times that it was lost because memory ran out.
  uint32_t return_count = 0;
  bool cancelled = false;              // It had started when it was cancelled: no more retries.
  uint64_t parent = 0;                 // The number of the task that submitted it here; 0: none.
  std::shared_ptr<Stream> stream;      // Of a generator.
  std::unique_ptr<ItemRerun> rerun;    // Of a kept generator, while it runs again: lost items.
  ActorCalls* calls = nullptr;         // A call of an actor, which it holds.
  OutboundChannel* channel = nullptr;  // Valid in flight.
  Task* live_previous = nullptr;
  Task* live_next = nullptr;

  // A number for good; `call` is another in every rebuild.
  CallId lineage_key() const { return CallId{first_return.index}; }
  // The kept task of which this is a run for lost items only; or nullptr.
  Task* rerun_of() const { return stream ? stream->rerun_of : nullptr; }
  Function& own_function() { return static_cast<Function&>(*function); }
};

// What the results of this task that lie in the store are marked with (lineage.cc).
objects::Rebuild rebuild_of(const Task& task);
// The refs that must live for the task to be run: the function's, then the arguments' (estate.cc).
std::vector<Object*> spec_refs_of(const Task& task);
// All arguments are known: the first one that is an error, or nullptr (submit.cc).
const Object* failed_argument(const Task& task);

}  // namespace mobula::process
