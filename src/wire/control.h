#pragma once
// Control messages (control.fbs): building them, and checking those of others.
//
// Verified<Root> copies untrusted bytes to private memory, verifies the copy and hands out only the
// copy, so a peer that rewrites what it shares cannot change what was checked. A message without a
// body is refused.
//
// An uplink record is a FrameHeader (kind kControlRecord) followed by one FlatBuffer and padding to 8.
//
// Threads: none; values.
// Limits:  kLargeControlBytesMax bytes a message (wire/limits.h).

#include <flatbuffers/flatbuffers.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bundle.h"
#include "base/ids.h"
#include "base/resources.h"
#include "base/result.h"
#include "wire/control_generated.h"
#include "wire/frames.h"

namespace mobula::wire {

// Both sides of a conversation must be of the same version.
constexpr uint32_t kControlProtocol = 6;
// Longer lists are sent as several messages.
constexpr size_t kControlListMax = 2000;
// A message with a value, or a parcel, carries the last so many refs of its list; those before them
// go ahead in RefsAhead messages. Together with an inline value of any size they fit.
constexpr size_t kRefsBesideValueMax = 1000;
// Of what a process is told why something failed.
constexpr size_t kReasonBytesMax = 16 * 1024;
constexpr FrameKind kControlRecord{32};

using Builder = flatbuffers::FlatBufferBuilder;

template <typename Root>
class Verified {
 public:
  // kInvalidArgument: not a well-formed message of this kind.
  static Result<Verified> parse(std::span<const std::byte> untrusted);

  const Root& root() const { return *flatbuffers::GetRoot<Root>(copy_.data()); }
  auto type() const { return root().body_type(); }

 private:
  std::vector<uint64_t> copy_;  // Of 64-bit words, for alignment.
};

using ToDaemonMessage = Verified<fb::ToDaemon>;
using ToProcessMessage = Verified<fb::ToProcess>;

// The FlatBuffer inside an uplink record. kInvalidArgument: the frame is of another kind.
Result<std::span<const std::byte>> record_body(std::span<const std::byte> frame);

// Bytes that the uplink record for a message of `message_bytes` takes in the ring.
constexpr size_t record_bytes(size_t message_bytes) {
  return padded(sizeof(FrameHeader) + message_bytes);
}
// Writes the record to `out`, which has record_bytes(message.size()) bytes.
void write_record(std::span<const std::byte> message, std::byte* out);

// Finishes a message whose body was just built. The bytes live in the builder until it is cleared.
template <typename Body>
std::span<const std::byte> finish_to_daemon(Builder& builder, flatbuffers::Offset<Body> body) {
  builder.Finish(fb::CreateToDaemon(builder, fb::UplinkBodyTraits<Body>::enum_value, body.Union()));
  return {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()};
}
template <typename Body>
std::span<const std::byte> finish_to_process(Builder& builder, flatbuffers::Offset<Body> body) {
  builder.Finish(
      fb::CreateToProcess(builder, fb::DownlinkBodyTraits<Body>::enum_value, body.Union()));
  return {reinterpret_cast<const std::byte*>(builder.GetBufferPointer()), builder.GetSize()};
}

inline fb::ObjectId to_wire(const ObjectId& id) {
  return {number(id.node), number(id.creator), id.index};
}
inline ObjectId from_wire(const fb::ObjectId& id) {
  return {NodeId{id.node()}, ProcessId{id.creator()}, id.index()};
}
inline fb::StoreLocation to_wire(const StoreLocation& location) {
  return {number(location.segment), location.entry, location.generation, 0,
          location.offset,          location.size};
}
inline StoreLocation from_wire(const fb::StoreLocation& location) {
  return {SegmentId{location.segment()},
          location.entry(),
          location.generation(),
          0,
          location.offset(),
          location.size()};
}

using ObjectIdList = flatbuffers::Vector<const fb::ObjectId*>;
using LocationList = flatbuffers::Vector<const fb::StoreLocation*>;
using ResourceList = flatbuffers::Vector<flatbuffers::Offset<fb::Resource>>;

flatbuffers::Offset<ObjectIdList> build_objects(Builder& builder, std::span<const ObjectId> ids);
flatbuffers::Offset<LocationList> build_locations(Builder& builder,
                                                  std::span<const StoreLocation> locations);
flatbuffers::Offset<ResourceList> build_resources(Builder& builder, const ResourceSet& resources);

// Null for one in no group.
flatbuffers::Offset<fb::BundleRef> build_bundle(Builder& builder, const BundleRef& bundle);
// Absent: in no group.
BundleRef read_bundle(const fb::BundleRef* bundle);

// An absent list is an empty one.
std::vector<ObjectId> read_objects(const ObjectIdList* list);
std::vector<StoreLocation> read_locations(const LocationList* list);
// kInvalidArgument: a negative amount, or a name twice.
Result<ResourceSet> read_resources(const ResourceList* list);

}  // namespace mobula::wire
