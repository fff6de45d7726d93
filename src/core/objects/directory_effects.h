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
  JobId job;
  SpecPtr spec;  // The task, if the creator told it.
};
// The bytes of this object are lost. Its creator, which keeps the task that made it, is to run that
// again: READY follows.
struct AskRebuild {
  ProcessId creator;
  ObjectId object;
};
// The bytes are lost and nobody can make them again; settle_estate() with the error that says why.
struct LostForGood {
  ObjectId object;
  Rebuild why;  // kByCreator: the creator is dead.
};
// Answers on_revive(): `process` holds the object from now on, or there is no such object any more.
struct Revived {
  ProcessId process;
  ObjectId object;
  bool held;
};
// Nobody holds this object of `creator` any more, which said that it can make it again.
struct Unwanted {
  ProcessId creator;
  ObjectId object;
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
using Effect = std::variant<DeliverValue, SendPeerDied, OwedReady, AskRebuild, LostForGood, Revived,
                            Unwanted, Buried, JobCollected, Dropped, AdoptExtent, FreeExtent>;
using Effects = std::vector<Effect>;

struct ParcelKey {
  ProcessId caller{};
  ProcessId callee{};
  CallId call{};
  auto operator<=>(const ParcelKey&) const = default;
};

}  // namespace mobula::objects
