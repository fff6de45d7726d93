#pragma once
// A stored value once more, in memory that its user may write (shm/private_mapping.h).

#include "base/result.h"
#include "process/runtime.h"
#include "shm/private_mapping.h"

namespace mobula::process {

// The bytes behind a pin of this runtime's. Valid while pinned. kUnavailable: such a mapping cannot be had;
// copy the bytes.
Result<shm::PrivateMapping> map_private(Runtime& runtime, uint64_t pin);

}  // namespace mobula::process
