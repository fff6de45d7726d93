#pragma once
// Values that the runtime makes itself, as they stand in frames: errors of its own, and where a stored
// value lies.
//
// Threads: any.

#include <string_view>
#include <vector>

#include "process/task.h"
#include "wire/frames.h"

namespace mobula::process {

std::vector<std::byte> system_error(wire::SystemErrorCode code, std::string_view text);
std::vector<std::byte> cancelled_error(Task& task);
std::vector<std::byte> stored_value(const wire::StoreLocation& location);

}  // namespace mobula::process
