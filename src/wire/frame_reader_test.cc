#include "wire/frame_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace mobula::wire {
namespace {

using Bytes = std::vector<std::byte>;

void append(Bytes& to, const void* from, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

// An error of an argument: a name of which `name_size` is said, then `text_size` bytes.
Bytes dependency_error(uint32_t name_size, size_t text_size) {
  const DependencyErrorPayload fixed{name_size, ValueKind::kTaskError, {}};
  const ValueHeader header{sizeof fixed + text_size, 0, ValueKind::kDependencyError, {}};
  Bytes bytes;
  append(bytes, &header, sizeof header);
  append(bytes, &fixed, sizeof fixed);
  bytes.resize(padded(bytes.size() + text_size));
  return bytes;
}

TEST(FrameReader, an_error_of_an_argument_has_a_name_within_its_payload) {
  for (const uint32_t name_size : {0U, 5U, 16U}) {
    EXPECT_TRUE(check_values(dependency_error(name_size, 16), 1).has_value());
  }
  for (const uint32_t name_size : {17U, 24U, 0xFFFFFFFFU}) {
    EXPECT_FALSE(check_values(dependency_error(name_size, 16), 1).has_value());
  }
  EXPECT_FALSE(check_values(dependency_error(1, 0), 1).has_value());
}

TEST(FrameReader, a_value_that_says_more_than_its_frame_has_is_refused) {
  const ValueHeader good{8, 1, ValueKind::kInt64, {}};
  Bytes bytes;
  append(bytes, &good, sizeof good);
  bytes.resize(sizeof good + sizeof(ObjectId) + 8);
  EXPECT_EQ(check_values(bytes, 1).value(), 1U);
  for (const ValueHeader& bad :
       {ValueHeader{9, 1, ValueKind::kInt64, {}}, ValueHeader{7, 1, ValueKind::kInt64, {}},
        ValueHeader{8, 2, ValueKind::kInt64, {}},
        ValueHeader{~uint64_t{0}, 1, ValueKind::kInt64, {}},
        ValueHeader{8, ~uint32_t{0}, ValueKind::kInt64, {}}, ValueHeader{8, 1, ValueKind{99}, {}},
        ValueHeader{24, 0, ValueKind::kReference, {}}}) {
    std::memcpy(bytes.data(), &bad, sizeof bad);
    EXPECT_FALSE(check_values(bytes, 1).has_value());
  }
}

}  // namespace
}  // namespace mobula::wire
