#pragma once
// The value of a shared object as its node daemon keeps it: bytes, or where they lie, and the refs
// inside. Immutable once made, so that every getter is given the same one.

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "wire/frames.h"

namespace mobula::objects {

struct ObjectValue {
  std::vector<std::byte> inline_bytes;          // ValueHeader, refs, payload; empty if in-store.
  std::optional<wire::StoreLocation> location;  // Set if in-store.
  std::vector<ObjectId> refs;                   // The refs inside, in either case.
};
using ValuePtr = std::shared_ptr<const ObjectValue>;

}  // namespace mobula::objects
