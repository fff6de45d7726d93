#include "process/oversized.h"

#include "process/error_values.h"
#include "wire/frames.h"

namespace mobula::process {

std::string too_many_bytes(const char* what, size_t bytes) {
  return std::string("the ") + what + " of the task that are too small for the object store have " +
         std::to_string(bytes) + " bytes in all, but at most " +
         std::to_string(wire::kValuesBytesMax) +
         " are possible. Put them into a list: a large value goes through the store";
}

// References count with the values that they stand for.
std::vector<std::byte> oversized(const Task& task) {
  constexpr size_t kFewMax = wire::kValuesBytesMax / (2 * wire::kInlineValueBytesMax);
  if (!task.has_references || task.value_count < kFewMax) return {};
  size_t bytes = task.arguments.size();
  for (const Object* object : task.refs) {
    bytes += object->value.bytes().size() + object->inner.size() * sizeof(ObjectId);
  }
  if (bytes <= wire::kValuesBytesMax) return {};
  return system_error(wire::SystemErrorCode::kInternal, too_many_bytes("arguments", bytes));
}

}  // namespace mobula::process
