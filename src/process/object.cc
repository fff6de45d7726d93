#include "process/object.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace mobula::process {

void StoredValue::assign(std::span<const std::byte> bytes) {
  MOBULA_CHECK(bytes.size() >= sizeof(wire::ValueHeader));
  clear();
  size_ = bytes.size();
  if (size_ > kSmall) {
    large_ = static_cast<std::byte*>(std::malloc(size_));
    MOBULA_CHECK(large_ != nullptr);
    std::memcpy(large_, bytes.data(), size_);
  } else {
    std::memcpy(small_, bytes.data(), size_);
  }
}

void StoredValue::clear() {
  if (size_ > kSmall) std::free(large_);
  size_ = 0;
  std::memset(small_, 0, sizeof small_);
}

std::span<const std::byte> StoredValue::payload() const {
  return bytes().subspan(sizeof(wire::ValueHeader) + ref_count() * sizeof(ObjectId));
}

ObjectId StoredValue::ref(uint32_t index) const {
  MOBULA_CHECK(index < ref_count());
  ObjectId id;
  std::memcpy(&id, data() + sizeof(wire::ValueHeader) + index * sizeof(ObjectId), sizeof id);
  return id;
}

}  // namespace mobula::process
