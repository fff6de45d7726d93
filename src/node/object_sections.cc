#include "node/object_sections.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace mobula::node {

namespace {

using nlohmann::json;
using objects::ListedObject;

// File-backed segments, by which private values there are told from those in memory.
constexpr size_t kFilesListedMax = 10'000;

const char* name_of(ListedObject::State state) {
  switch (state) {
    case ListedObject::State::kNamed:
      return "named";
    case ListedObject::State::kPending:
      return "pending";
    case ListedObject::State::kReady:
      return "ready";
  }
  return "";
}

const char* name_of(store::Spiller::Seen::Where where) {
  using Where = store::Spiller::Seen::Where;
  switch (where) {
    case Where::kMemory:
      return "memory";
    case Where::kMemoryAndDisk:
      return "memory+disk";
    case Where::kDisk:
      return "disk";
    case Where::kFile:
      return "file";
    case Where::kMoving:
      return "moving";
    case Where::kLost:
      return "lost";
  }
  return "";
}

json name_json(const wire::StoreLocation& value) {
  return {number(value.segment), value.entry, value.generation};
}

json object_json(const ListedObject& listed, const ObjectShell::Origin* origin) {
  json object = {{"creator", number(listed.object.creator)},
                 {"index", listed.object.index},
                 {"state", name_of(listed.state)},
                 {"size", objects::size_of(listed.value)},
                 {"jobs", listed.jobs},
                 {"parcels", listed.parcels},
                 {"containers", listed.containers},
                 {"tasks", listed.tasks}};
  json processes = json::array();
  for (const ProcessId process : listed.processes) processes.push_back(number(process));
  object["processes"] = std::move(processes);
  if (origin != nullptr) {
    object["call_site"] = origin->call_site;
    object["made_ns"] = origin->made.count();
  }
  if (listed.value != nullptr && listed.value->location) {
    object["name"] = name_json(*listed.value->location);
  }
  return object;
}

json values_json(const StoreShell& store, size_t max) {
  std::vector<std::pair<wire::StoreLocation, store::Spiller::Seen>> values;
  store.spiller().for_each([&](const wire::StoreLocation& name, const store::Spiller::Seen& seen) {
    values.emplace_back(name, seen);
  });
  const auto larger = [](const auto& one, const auto& other) {
    return one.first.size > other.first.size;
  };
  std::ranges::stable_sort(values, larger);
  if (values.size() > max) values.resize(max);
  json list = json::array();
  for (const auto& [name, seen] : values) {
    list.push_back({{"name", name_json(name)},
                    {"size", name.size},
                    {"where", name_of(seen.where)},
                    {"made_ns", seen.made.count()},
                    {"since_ns", seen.since.count()}});
  }
  return list;
}

}  // namespace

std::string store_json(const StoreShell& store) {
  json in_files = json::array();
  for (const SegmentId segment : store.segments_in_files(kFilesListedMax)) {
    in_files.push_back(number(segment));
  }
  const store::Spiller::Totals totals = store.spiller().totals();
  const json section = {{"capacity_bytes", store.capacity_bytes()},
                        {"granted_bytes", store.granted_bytes()},
                        {"taken_bytes", store.taken_bytes()},
                        {"segments_in_files", std::move(in_files)},
                        {"in_file_bytes", store.in_file_bytes()},
                        {"shared_in_file_values", totals.in_file_values},
                        {"segments", store.segment_count()},
                        {"pinned_bytes", store.pinned_bytes()},
                        {"shared_values", totals.values},
                        {"shared_bytes", totals.memory_bytes},
                        {"disk_values", totals.disk_values},
                        {"disk_bytes", totals.disk_bytes},
                        {"files", totals.files},
                        {"spilled_values", totals.spilled_values},
                        {"spilled_bytes", totals.spilled_bytes},
                        {"restored_values", totals.restored_values},
                        {"restored_bytes", totals.restored_bytes},
                        {"lost_values", totals.lost_values},
                        {"spill_folder", store.spill_folder()},
                        {"trouble", store.spiller().trouble()}};
  return section.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string objects_json(const ObjectShell& objects, const StoreShell& store, size_t max) {
  const objects::ObjectListing listing = objects.directory().list_largest(max);
  json list = json::array();
  for (const ListedObject& listed : listing.largest) {
    list.push_back(object_json(listed, objects.origin_of(listed.object)));
  }
  const json section = {{"entries", listing.entries},
                        {"pending", listing.pending},
                        {"inline_bytes", listing.inline_bytes},
                        {"objects", std::move(list)},
                        {"values", values_json(store, max)}};
  return section.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace mobula::node
