#pragma once
// Tasks whose arguments, or results, are more than can be sent.
//
// Threads: guarded by the runtime's lock.

#include <cstddef>
#include <string>
#include <vector>

#include "process/task.h"
#include "wire/limits.h"

namespace mobula::process {

// `what`: "arguments" or "results".
std::string too_many_bytes(const char* what, size_t bytes);

// All arguments of the task are known. An error, if they are more than can be sent; else empty.
std::vector<std::byte> oversized(const Task& task);

}  // namespace mobula::process
