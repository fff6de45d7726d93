#pragma once
// A task as bytes: what another process needs to run it in place of the one that submitted it. It goes
// with the share of a pending object to the daemon, which keeps it and passes it on (Adopt).
//
//   TaskSpecHeader | name, padded | resources, padded | function (one value), padded | arguments
//
// Integers are little-endian; everything is checked before it is used.
//
// Threads: any.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace mobula::wire {

struct TaskSpecHeader {
  ObjectId first_return;
  uint32_t return_count;
  int32_t retries_left;
  uint32_t value_count;  // Of the arguments, keyword names included.
  uint32_t keyword_count;
  uint32_t name_size;
  uint32_t resources_size;  // Text: a line "name=amount" for each, in fixed point.
  uint32_t function_refs;   // How many of the refs belong to the function; the others follow.
  uint32_t time_limit_ms;
  uint64_t function_size;
  uint64_t arguments_size;
  int32_t priority;
  int32_t bundle_index;  // base/bundle.h
  PlacementGroupId group;
  uint32_t captures;
  uint32_t reserved;
};
static_assert(sizeof(TaskSpecHeader) == 88);

struct TaskSpecView {
  TaskSpecHeader header{};
  std::string_view name;
  std::string_view resources;
  std::span<const std::byte> function;
  std::span<const std::byte> arguments;
};

// kInvalidArgument: it is not well-formed. The values in it were checked, too.
Result<TaskSpecView> read_task_spec(std::span<const std::byte> bytes);

}  // namespace mobula::wire
