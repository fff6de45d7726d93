#include "wire/frame_reader.h"

#include <algorithm>

namespace mobula::wire {

namespace {

bool known(ValueKind kind) {
  switch (kind) {
    case ValueKind::kNone:
    case ValueKind::kTrue:
    case ValueKind::kFalse:
    case ValueKind::kInt64:
    case ValueKind::kFloat64:
    case ValueKind::kString:
    case ValueKind::kBytes:
    case ValueKind::kPickle:
    case ValueKind::kPickleWithBuffers:
    case ValueKind::kKeywordNames:
    case ValueKind::kTaskError:
    case ValueKind::kSystemError:
    case ValueKind::kDependencyError:
    case ValueKind::kReference:
    case ValueKind::kInStore:
      return true;
  }
  return false;
}

// The smallest payload that the kind can have.
uint64_t payload_min(ValueKind kind) {
  switch (kind) {
    case ValueKind::kInt64:
    case ValueKind::kFloat64:
      return 8;
    case ValueKind::kSystemError:
      return sizeof(SystemErrorPayload);
    case ValueKind::kDependencyError:
      return sizeof(DependencyErrorPayload);
    case ValueKind::kInStore:
      return sizeof(StoreLocation);
    default:
      return 0;
  }
}

}  // namespace

Result<ValueView> read_value(std::span<const std::byte> bytes, size_t& offset) {
  ValueView view{};
  if (offset > bytes.size() || bytes.size() - offset < sizeof(ValueHeader)) {
    return fail(ErrorCode::kInvalidArgument, "value is shorter than its header");
  }
  std::memcpy(&view.header, bytes.data() + offset, sizeof(ValueHeader));
  if (!known(view.header.kind)) return fail(ErrorCode::kInvalidArgument, "value of unknown kind");
  const size_t rest = bytes.size() - offset - sizeof(ValueHeader);
  const uint64_t refs = uint64_t{view.header.ref_count} * sizeof(ObjectId);
  if (refs > rest || view.header.size > rest - refs) {
    return fail(ErrorCode::kInvalidArgument, "value is longer than its frame");
  }
  if (view.header.size < payload_min(view.header.kind)) {
    return fail(ErrorCode::kInvalidArgument, "value is too short for its kind");
  }
  if (view.header.kind == ValueKind::kReference && view.header.ref_count != 1) {
    return fail(ErrorCode::kInvalidArgument, "reference without a ref");
  }
  if (view.header.kind == ValueKind::kDependencyError) {
    DependencyErrorPayload fixed{};
    std::memcpy(&fixed, bytes.data() + offset + sizeof(ValueHeader) + refs, sizeof fixed);
    if (fixed.name_size > view.header.size - sizeof fixed) {
      return fail(ErrorCode::kInvalidArgument, "error of an argument with too long a name");
    }
  }
  const size_t size = sizeof(ValueHeader) + refs + view.header.size;
  view.whole = bytes.subspan(offset, size);
  view.payload = view.whole.subspan(sizeof(ValueHeader) + refs);
  offset += std::min(padded(size), bytes.size() - offset);
  return view;
}

Result<uint64_t> check_values(std::span<const std::byte> bytes, uint32_t count) {
  size_t offset = 0;
  uint64_t refs = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const Result<ValueView> value = read_value(bytes, offset);
    MOBULA_TRY(value);
    refs += value->header.ref_count;
  }
  if (offset != bytes.size()) {
    return fail(ErrorCode::kInvalidArgument, "bytes behind the last value");
  }
  return refs;
}

}  // namespace mobula::wire
