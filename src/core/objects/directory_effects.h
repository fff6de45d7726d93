#pragma once
// What an ObjectDirectory asks of its shell.

#include <compare>
#include <string>
#include <variant>
#include <vector>

#include "core/objects/object_value.h"

namespace mobula::objects {

// Answers one get of `process`. `value` null: there is no such object, and `error` says why.
struct DeliverValue {
  ProcessId process;
  ObjectId object;
  ValuePtr value;
  std::string error;
};
struct SendPeerDied {
  ProcessId to;
  ProcessId dead;
};
// The dead `creator` owed a value for this pending object; now the daemon does (R19).
struct OwedReady {
  ObjectId object;
  ProcessId creator;
};
struct Buried {
  ProcessId process;
};
struct JobCollected {
  JobId job;
};
// Nobody refers any more to an object that was to be watched.
struct Dropped {
  ObjectId object;
};
// Bytes in the store belong to the directory from now on / to nobody any more.
struct AdoptExtent {
  wire::StoreLocation location;
};
struct FreeExtent {
  wire::StoreLocation location;
};
using Effect = std::variant<DeliverValue, SendPeerDied, OwedReady, Buried, JobCollected,
                            Dropped, AdoptExtent, FreeExtent>;
using Effects = std::vector<Effect>;

struct ParcelKey {
  ProcessId caller{};
  ProcessId callee{};
  CallId call{};
  auto operator<=>(const ParcelKey&) const = default;
};

}  // namespace mobula::objects
