#pragma once
// The names of things. Ids are distinct types, never reused while a node incarnation lives.
//
// ProcessId   a driver or worker, numbered by its node daemon from 1; 0 is the daemon itself.
// JobId       a driver and everything that works for it, numbered by the daemon from 1.
// LeaseId     one owner's right to one worker, numbered by the daemon from 1.
// ChannelId   one ring pair between a caller and a callee, numbered by the daemon from 1.
// PlacementGroupId  one group of reserved bundles, numbered by the daemon from 1; 0 is none.
// SegmentId   one shared-memory segment of the object store, numbered by the daemon from 1.
// ObjectId    (node, creator, index): who made the object is part of its name (OWNERSHIP.md R1).
// TaskId      the same numbering as objects: the id of a task is that of its first return, or an
//             index of its own when it has none.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace mobula {

enum class NodeId : uint32_t {};     // Random per daemon start: a node incarnation.
enum class ProcessId : uint32_t {};  // Unique within a node incarnation.
enum class JobId : uint32_t {};
enum class EnvironmentId : uint32_t {};  // A runtime environment, unique within its job.
enum class LeaseId : uint64_t {};
enum class ChannelId : uint64_t {};
enum class SegmentId : uint32_t {};
enum class PlacementGroupId : uint64_t {};
enum class CallId : uint64_t {};  // A task in flight, unique within its caller.

constexpr ProcessId kDaemonProcess{0};
constexpr EnvironmentId kJobEnvironment{0};  // What init() says about all workers of its job.

// 16 bytes, trivially copyable: it travels inside frames as it is (little-endian).
struct ObjectId {
  NodeId node{};
  ProcessId creator{};
  uint64_t index = 0;  // Counts from 1 in its creator; 0 is "no object".

  auto operator<=>(const ObjectId&) const = default;
  bool is_nil() const { return index == 0; }
};
static_assert(sizeof(ObjectId) == 16);

struct ObjectIdHash {
  size_t operator()(const ObjectId& id) const {
    const uint64_t high =
        (static_cast<uint64_t>(id.node) << 32) ^ static_cast<uint64_t>(id.creator);
    return (high * 0x9E3779B97F4A7C15ULL) ^ (id.index * 0xC2B2AE3D27D4EB4FULL);
  }
};

template <typename Id>
constexpr auto number(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

}  // namespace mobula
