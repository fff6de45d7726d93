#include "wire/task_spec.h"

#include <algorithm>
#include <cstring>

#include "wire/frame_reader.h"
#include "wire/frames.h"

namespace mobula::wire {

namespace {

constexpr uint32_t kReturnsMax = 1'000'000;

Error malformed() { return {ErrorCode::kInvalidArgument, "a task specification is malformed"}; }

}  // namespace

Result<TaskSpecView> read_task_spec(std::span<const std::byte> bytes) {
  TaskSpecView spec;
  if (bytes.size() < sizeof spec.header) return tl::unexpected(malformed());
  std::memcpy(&spec.header, bytes.data(), sizeof spec.header);
  std::span<const std::byte> rest = bytes.subspan(sizeof spec.header);
  const auto take = [&rest](uint64_t size) -> Result<std::span<const std::byte>> {
    if (size > rest.size()) return tl::unexpected(malformed());
    const auto part = rest.first(size);
    rest = rest.subspan(std::min(rest.size(), padded(size)));
    return part;
  };
  const auto name = take(spec.header.name_size);
  MOBULA_TRY(name);
  const auto resources = take(spec.header.resources_size);
  MOBULA_TRY(resources);
  const auto function = take(spec.header.function_size);
  MOBULA_TRY(function);
  const auto arguments = take(spec.header.arguments_size);
  MOBULA_TRY(arguments);
  MOBULA_TRY(check_values(*function, 1));
  MOBULA_TRY(check_values(*arguments, spec.header.value_count));
  const bool keywords_fit =
      spec.header.keyword_count < std::max<uint32_t>(spec.header.value_count, 1);
  if (!keywords_fit || spec.header.return_count > kReturnsMax ||
      spec.header.first_return.is_nil()) {
    return tl::unexpected(malformed());
  }
  spec.name = {reinterpret_cast<const char*>(name->data()), name->size()};
  spec.resources = {reinterpret_cast<const char*>(resources->data()), resources->size()};
  spec.function = *function;
  spec.arguments = *arguments;
  return spec;
}

}  // namespace mobula::wire
