#include "wire/control.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "wire/limits.h"

namespace mobula::wire {

namespace {

constexpr flatbuffers::uoffset_t kDepthMax = 16;
// Each takes some bytes of its own in an honest message.
constexpr size_t kTablesMin = 16 * 1024;
constexpr size_t kTableBytesMin = 8;

}  // namespace

template <typename Root>
Result<Verified<Root>> Verified<Root>::parse(std::span<const std::byte> untrusted) {
  if (untrusted.size() < sizeof(flatbuffers::uoffset_t) ||
      untrusted.size() > kLargeControlBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "control message of " + std::to_string(untrusted.size()) + " bytes");
  }
  Verified message;
  message.copy_.resize((untrusted.size() + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  std::memcpy(message.copy_.data(), untrusted.data(), untrusted.size());
  const size_t tables_max = std::max(kTablesMin, untrusted.size() / kTableBytesMin);
  flatbuffers::Verifier verifier(reinterpret_cast<const uint8_t*>(message.copy_.data()),
                                 untrusted.size(), kDepthMax,
                                 static_cast<flatbuffers::uoffset_t>(tables_max));
  if (!verifier.VerifyBuffer<Root>(nullptr)) {
    return fail(ErrorCode::kInvalidArgument, "control message is malformed");
  }
  if (static_cast<int>(message.root().body_type()) == 0 || message.root().body() == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "control message without a body");
  }
  return message;
}

template class Verified<fb::ToDaemon>;
template class Verified<fb::ToProcess>;

Result<std::span<const std::byte>> record_body(std::span<const std::byte> frame) {
  FrameHeader header{};
  if (frame.size() < sizeof header) {
    return fail(ErrorCode::kInvalidArgument, "uplink record shorter than its header");
  }
  std::memcpy(&header, frame.data(), sizeof header);
  if (header.kind != kControlRecord) {
    return fail(ErrorCode::kInvalidArgument,
                "uplink record of unknown kind " + std::to_string(static_cast<int>(header.kind)));
  }
  return frame.subspan(sizeof header);
}

void write_record(std::span<const std::byte> message, std::byte* out) {
  const size_t size = record_bytes(message.size());
  const FrameHeader header{static_cast<uint32_t>(size), kControlRecord, 0};
  std::memcpy(out, &header, sizeof header);
  std::memcpy(out + sizeof header, message.data(), message.size());
  const size_t end = sizeof header + message.size();
  std::memset(out + end, 0, size - end);
}

flatbuffers::Offset<ObjectIdList> build_objects(Builder& builder, std::span<const ObjectId> ids) {
  fb::ObjectId* target = nullptr;
  const auto list = builder.CreateUninitializedVectorOfStructs<fb::ObjectId>(ids.size(), &target);
  for (size_t i = 0; i < ids.size(); ++i) target[i] = to_wire(ids[i]);
  return list;
}

flatbuffers::Offset<LocationList> build_locations(Builder& builder,
                                                  std::span<const StoreLocation> locations) {
  fb::StoreLocation* target = nullptr;
  const auto list =
      builder.CreateUninitializedVectorOfStructs<fb::StoreLocation>(locations.size(), &target);
  for (size_t i = 0; i < locations.size(); ++i) target[i] = to_wire(locations[i]);
  return list;
}

flatbuffers::Offset<ResourceList> build_resources(Builder& builder, const ResourceSet& resources) {
  std::vector<flatbuffers::Offset<fb::Resource>> list;
  for (const auto& [name, amount] : resources.amounts()) {
    list.push_back(fb::CreateResource(builder, builder.CreateString(name), amount));
  }
  return builder.CreateVector(list);
}

flatbuffers::Offset<fb::BundleRef> build_bundle(Builder& builder, const BundleRef& bundle) {
  if (!bundle.in_group()) return {};
  return fb::CreateBundleRef(builder, number(bundle.group), bundle.index, bundle.captures);
}

BundleRef read_bundle(const fb::BundleRef* bundle) {
  if (bundle == nullptr || bundle->group() == 0) return {};
  return {PlacementGroupId{bundle->group()}, bundle->index() < 0 ? kAnyBundle : bundle->index(),
          bundle->captures()};
}

std::vector<ObjectId> read_objects(const ObjectIdList* list) {
  std::vector<ObjectId> ids;
  if (list == nullptr) return ids;
  ids.reserve(list->size());
  for (const fb::ObjectId* id : *list) ids.push_back(from_wire(*id));
  return ids;
}

std::vector<StoreLocation> read_locations(const LocationList* list) {
  std::vector<StoreLocation> locations;
  if (list == nullptr) return locations;
  locations.reserve(list->size());
  for (const fb::StoreLocation* location : *list) locations.push_back(from_wire(*location));
  return locations;
}

Result<ResourceSet> read_resources(const ResourceList* list) {
  ResourceSet resources;
  if (list == nullptr) return resources;
  for (const fb::Resource* resource : *list) {
    const std::string name = resource->name()->str();
    if (resource->amount() < 0 || resource->amount() > kAmountMax || resources.get(name) != 0) {
      return fail(ErrorCode::kInvalidArgument, "bad amount of resource '" + name + "'");
    }
    resources.set(name, resource->amount());
  }
  return resources;
}

}  // namespace mobula::wire
