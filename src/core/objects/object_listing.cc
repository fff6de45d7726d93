// ObjectDirectory: what it tells people.

#include "core/objects/object_listing.h"

#include <algorithm>

#include "core/objects/object_directory.h"

namespace mobula::objects {

uint64_t size_of(const ValuePtr& value) {
  if (value == nullptr) return 0;
  return value->location ? value->location->size : value->inline_bytes.size();
}

ObjectListing ObjectDirectory::list_largest(size_t max) const {
  ObjectListing listing;
  listing.entries = entries_.size();
  std::vector<std::pair<uint64_t, ObjectId>> sizes;
  sizes.reserve(entries_.size());
  for (const auto& [id, entry] : entries_) {
    sizes.emplace_back(size_of(entry.value), id);
    if (entry.state != State::kReady) ++listing.pending;
    if (entry.value != nullptr) listing.inline_bytes += entry.value->inline_bytes.size();
  }
  const auto larger = [](const auto& one, const auto& other) {
    return one.first != other.first ? one.first > other.first : one.second < other.second;
  };
  const size_t shown = std::min(max, sizes.size());
  std::ranges::partial_sort(sizes, sizes.begin() + static_cast<ptrdiff_t>(shown), larger);
  sizes.resize(shown);
  std::unordered_map<ObjectId, ListedObject*, ObjectIdHash> rows;
  listing.largest.resize(shown);
  for (size_t i = 0; i < shown; ++i) {
    const Entry& entry = entries_.at(sizes[i].second);
    ListedObject& row = listing.largest[i];
    row.object = sizes[i].second;
    row.state = static_cast<ListedObject::State>(entry.state);
    row.value = entry.value;
    rows[row.object] = &row;
  }
  const auto count = [&rows](std::span<const ObjectId> refs, uint32_t ListedObject::*kind) {
    for (const ObjectId ref : refs) {
      if (const auto row = rows.find(ref); row != rows.end()) ++(row->second->*kind);
    }
  };
  for (const auto& [id, entry] : entries_) {
    if (entry.value != nullptr) count(entry.value->refs, &ListedObject::containers);
    count(entry.spec_refs, &ListedObject::tasks);
  }
  for (const auto& [key, parcel] : parcels_) count(parcel.refs, &ListedObject::parcels);
  for (const auto& [id, job] : jobs_) {
    for (const ObjectId ref : job.holds) count({&ref, 1}, &ListedObject::jobs);
  }
  for (const auto& [id, process] : processes_) {
    for (const ObjectId ref : process.holds) {
      if (const auto row = rows.find(ref); row != rows.end()) row->second->processes.push_back(id);
    }
  }
  for (ListedObject& row : listing.largest) std::ranges::sort(row.processes);
  return listing;
}

}  // namespace mobula::objects
