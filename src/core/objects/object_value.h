#pragma once
// The value of a shared object as its node daemon keeps it: bytes, or where they lie, and the refs
// inside. Immutable once made, so that every getter is given the same one.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "wire/frames.h"

namespace mobula::objects {

// Can a value whose bytes are lost be made again, by running its task?
enum class Rebuild : uint8_t {
  kNever,      // It was put, or came from an actor.
  kByCreator,  // The creator keeps the task.
  kNoRetries,  // The task is not to run again, or not once more.
  kCall,       // A method of an actor returned it.
  kCancelled,  // It is an item of a generator that was cancelled.
  kEvicted,    // The creator kept the task no longer: too many others (tasks/lineage.h).
};

struct ObjectValue {
  std::vector<std::byte> inline_bytes;          // ValueHeader, refs, payload; empty if in-store.
  std::optional<wire::StoreLocation> location;  // Set if in-store.
  std::vector<ObjectId> refs;                   // The refs inside, in either case.
  Rebuild rebuild = Rebuild::kNever;            // Of an in-store value.
};
using ValuePtr = std::shared_ptr<const ObjectValue>;

// The task that makes a pending object (wire/task_spec.h); opaque here.
using SpecPtr = std::shared_ptr<const std::vector<std::byte>>;

}  // namespace mobula::objects
