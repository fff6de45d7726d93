#include "process/live_objects.h"

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

namespace fb = wire::fb;

constexpr size_t kSlice = 512;                // Tasks.
constexpr uint64_t kLookedAtMax = 1'000'000;  // Tasks.
constexpr size_t kCallSitesMax = 10'000;
constexpr size_t kCallSiteBytesMax = 1024;

fb::ObjectPlace place_of(const Object& object) {
  if (!object.is_ready()) {
    const bool is_foreign = object.sharing == Sharing::kForeign;
    return is_foreign ? fb::ObjectPlace::unfetched : fb::ObjectPlace::pending;
  }
  const wire::ValueKind kind = object.value.kind();
  if (kind == wire::ValueKind::kInStore) return fb::ObjectPlace::store;
  return wire::is_error(kind) ? fb::ObjectPlace::error : fb::ObjectPlace::here;
}

}  // namespace

void LiveObjects::add(const Task& task) {
  for (const Object* ref : task.refs) pending_tasks_[ref->id]++;
}

void LiveObjects::add(const Object& object, const Known& known) {
  for (const Object* inner : object.inner) containers_[inner->id]++;
  ++sums_.count;
  Row row{.id = object.id,
          .count = object.count.load(std::memory_order_relaxed),
          .is_shared = object.sharing != Sharing::kPrivate,
          .is_task = object.sharing != Sharing::kForeign && !object.was_put,
          .place = place_of(object),
          .known = known};
  if (known.location) {
    row.size = known.location->size;
  } else if (object.is_ready()) {
    row.size = object.value.payload().size();
    sums_.bytes += row.size;
  } else if (object.producer != nullptr) {
    row.attempt = object.producer->attempt;
    row.count -= std::min(row.count, uint32_t{1});  // The task's.
  }
  rows_.push_back(row);
  if (rows_.size() >= 2 * static_cast<size_t>(rows_max_) + kSlice) keep_largest();
}

void LiveObjects::keep_largest() {
  if (rows_.size() <= rows_max_) return;
  const auto larger = [](const Row& one, const Row& other) {
    return one.size != other.size ? one.size > other.size : one.id < other.id;
  };
  std::nth_element(rows_.begin(), rows_.begin() + rows_max_, rows_.end(), larger);
  rows_.resize(rows_max_);
}

uint32_t LiveObjects::count_in(const Counts& counts, ObjectId id) {
  const auto found = counts.find(id);
  return found == counts.end() ? 0 : found->second;
}

flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<fb::LiveObject>>> LiveObjects::build(
    flatbuffers::FlatBufferBuilder& builder) {
  keep_largest();
  std::vector<flatbuffers::Offset<fb::LiveObject>> offsets;
  for (const Row& row : rows_) {
    const uint32_t tasks = count_in(pending_tasks_, row.id);
    const uint32_t containers = count_in(containers_, row.id);
    const fb::TaskNumber number_of(row.id.index, number(row.id.creator), 0);
    fb::LiveObjectBuilder object(builder);
    object.add_object(&number_of);
    object.add_size(row.size);
    object.add_place(row.place);
    if (const auto& at = row.known.location) {
      const fb::StoreName name(number(at->segment), at->entry, at->generation);
      object.add_name(&name);
    }
    object.add_is_shared(row.is_shared);
    object.add_refs(row.count - std::min(row.count, tasks + containers));
    object.add_pending_tasks(tasks);
    object.add_containers(containers);
    object.add_is_viewed(row.known.is_viewed);
    object.add_call_site(row.known.call_site);
    object.add_made_ns(static_cast<uint64_t>(row.known.made.count()));
    object.add_is_task(row.is_task);
    object.add_phase(row.known.phase.value_or(fb::TaskPhase::queued));
    object.add_attempt(row.attempt);
    offsets.push_back(object.Finish());
  }
  return builder.CreateVector(offsets);
}

void RuntimeImpl::note_call_site(std::span<Object* const> objects, std::string_view site) {
  if (!options_.records_call_sites) return;
  const Instant now = monotonic_now();
  const Locked lock(*this);
  Origin origin{.made = now};
  std::string text(site.substr(0, kCallSiteBytesMax));
  auto known = call_sites_.find(text);
  if (known == call_sites_.end() && call_sites_.size() < kCallSitesMax) {
    const auto number = static_cast<uint32_t>(call_sites_.size() + 1);
    known = call_sites_.emplace(std::move(text), number).first;
  }
  if (known != call_sites_.end()) {
    origin.call_site = known->second;
    origin.site = &known->first;
  }
  for (const Object* object : objects) origins_[object] = origin;
}

// In slices, so that the lock is never held for long.
void RuntimeImpl::look_at_objects(LiveObjects& objects) {
  {
    const Locked lock(*this);
    drain_dropped();
    looked_at_ = live_tasks_;
  }
  bool more = true;
  for (uint64_t done = 0; more && done < kLookedAtMax; done += kSlice) {
    const Locked lock(*this);
    for (size_t i = 0; i < kSlice && looked_at_ != nullptr; ++i) {
      objects.add(*std::exchange(looked_at_, looked_at_->live_next));
    }
    more = looked_at_ != nullptr;
  }
  std::vector<ObjectPool::ChunkName> chunks;
  {
    const Locked lock(*this);
    looked_at_ = nullptr;
    chunks = pool_.chunks();
  }
  const auto tell = [&](const Object& object) {
    if (object.count.load(std::memory_order_relaxed) == 0 || object.proxy) return;
    LiveObjects::Known known;
    if (object.is_ready() && object.value.kind() == wire::ValueKind::kInStore) {
      wire::StoreLocation location{};
      std::memcpy(&location, object.value.payload().data(), sizeof location);
      known.location = location;
      known.is_viewed = store_->is_viewed(location);
      known.made = store_->made(location);
    }
    if (const auto origin = origins_.find(&object); origin != origins_.end()) {
      known.call_site = origin->second.call_site;
      known.made = origin->second.made;
    }
    if (const Task* task = object.producer; !object.is_ready() && task != nullptr) {
      const bool sent = task->state == tasks::TaskState::kInFlight && task->channel != nullptr;
      known.phase = phase_of(*task, sent ? dispatcher_.lease_of(task->channel->id) : nullptr);
    }
    objects.add(object, known);
  };
  for (const ObjectPool::ChunkName chunk : chunks) {
    const Locked lock(*this);
    pool_.for_each_in(chunk, tell);
  }
}

}  // namespace mobula::process
