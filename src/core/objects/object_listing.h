#pragma once
// What an ObjectDirectory tells people: its largest entries, and who holds them.

#include <vector>

#include "core/objects/object_value.h"

namespace mobula::objects {

struct ListedObject {
  enum class State : uint8_t { kNamed, kPending, kReady };
  ObjectId object;
  State state = State::kNamed;
  ValuePtr value;                    // Ready.
  std::vector<ProcessId> processes;  // That hold it, also dead ones that are not buried; ascending.
  // Holds of other kinds.
  uint32_t jobs = 0;
  uint32_t parcels = 0;
  uint32_t containers = 0;  // Values with the ref inside.
  uint32_t tasks = 0;       // Pending objects whose task has the ref among its arguments.
};

struct ObjectListing {
  uint64_t entries = 0;
  uint64_t pending = 0;  // Of these: without a value.
  uint64_t inline_bytes = 0;
  std::vector<ListedObject> largest;  // By the size of the value, then by id.
};

// Bytes of a value, wherever they are; 0 without one.
uint64_t size_of(const ValuePtr& value);

}  // namespace mobula::objects
