#include "process/store_client.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::process {

StoreClient::StoreClient(const Options& options, std::byte* pins)
    : options_(options), pins_(pins), slabs_(options.slabs), file_slabs_(options.slabs) {}

// ---- writing -----------------------------------------------------------------------------------

std::variant<WritableExtent, NeedSegment> StoreClient::create(uint64_t size) {
  std::optional<store::Extent> extent = slabs_.allocate(size);
  if (!extent) extent = file_slabs_.allocate(size);
  if (!extent) return NeedSegment{slabs_.segment_bytes_for(size), slabs_.wants_own_segment(size)};
  Own& own = own_.at(extent->segment);
  const wire::StoreLocation location = own.segment->view().begin_write(
      extent->entry, extent->offset, extent->size, options_.process);
  own.extents[extent->entry] = {location.generation, Owner::kWriting};
  tell_bytes();
  Populator* populator = slabs_.owns(extent->segment) ? &populator_ : nullptr;
  return WritableExtent{location, own.segment->data() + location.offset, own.segment, populator};
}

Result<void> StoreClient::add_own(std::shared_ptr<OwnSegment> segment, const NeedSegment& asked,
                                  Instant now) {
  const shm::SegmentView& view = segment->view();
  if (view.data_bytes() < asked.bytes) {
    return fail(ErrorCode::kInvalidArgument, "the daemon granted less than was asked for");
  }
  store::SlabAllocator& slabs = view.is_in_file() ? file_slabs_ : slabs_;
  MOBULA_TRY(slabs.add_segment(segment->id(),
                               {.data_offset = view.data_offset(),
                                .data_bytes = view.data_bytes(),
                                .entry_count = view.entry_count(),
                                .for_one = asked.for_one},
                               now));
  Own& own = own_[segment->id()];
  own.extents.resize(view.entry_count());
  own.segment = std::move(segment);
  return {};
}

std::optional<NeedSegment> StoreClient::want_ahead(uint64_t size, uint64_t request) {
  if (!slabs_.wants_own_segment(size) || size > options_.ahead_max) return std::nullopt;
  const size_t in_use = slabs_.large_in_use();
  if (ahead_request_ != 0 || in_use <= ahead_mark_ || slabs_.has_empty_large(size)) {
    return std::nullopt;
  }
  ahead_mark_ = in_use;
  ahead_request_ = request;
  ahead_ = {slabs_.segment_bytes_for(size), true};
  return ahead_;
}

std::optional<NeedSegment> StoreClient::end_ahead(uint64_t request) {
  if (request == 0 || request != ahead_request_) return std::nullopt;
  ahead_request_ = 0;
  return ahead_;
}

void StoreClient::seal(const WritableExtent& extent) {
  OwnExtent* own = own_extent(extent.location);
  MOBULA_CHECK(own != nullptr && own->owner == Owner::kWriting);
  own->owner = Owner::kPrivate;
  MOBULA_CHECK(extent.segment->view().seal(extent.location));
}

void StoreClient::abandon(const WritableExtent& extent, Instant now) {
  OwnExtent* own = own_extent(extent.location);
  MOBULA_CHECK(own != nullptr && own->owner == Owner::kWriting);
  extent.segment->view().drop(extent.location);
  free_own(extent.location, now);
}

void StoreClient::give_away(const wire::StoreLocation& location) {
  OwnExtent* own = own_extent(location);
  if (own == nullptr || own->owner != Owner::kPrivate) return;
  own->owner = Owner::kDaemon;
  forget_holder(*own);
}

void StoreClient::set_holder(const wire::StoreLocation& location, void* holder, Instant now) {
  OwnExtent* own = own_extent(location);
  MOBULA_CHECK(own != nullptr && own->owner == Owner::kPrivate && own->order == 0);
  own->order = next_order_++;
  private_[own->order] = {location, holder, now};
}

uint64_t StoreClient::private_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [order, value] : private_) bytes += value.location.size;
  return bytes;
}

bool StoreClient::is_viewed(const wire::StoreLocation& value) const {
  return pin_of_.contains(key_of(place_of(value)));
}

Instant StoreClient::made(const wire::StoreLocation& value) {
  const OwnExtent* own = own_extent(value);
  const auto found = private_.find(own != nullptr ? own->order : 0);
  return found == private_.end() ? Instant{} : found->second.made;
}

void StoreClient::forget_holder(OwnExtent& extent) {
  private_.erase(extent.order);
  extent.order = 0;
}

std::vector<void*> StoreClient::oldest_private(uint64_t bytes) const {
  std::vector<void*> holders;
  uint64_t found = 0;
  // What is viewed cannot go: it is shared last, so that the daemon knows what stands in the way.
  for (const bool viewed : {false, true}) {
    for (const auto& [order, value] : private_) {
      if (found >= bytes) break;
      if (pin_of_.contains(key_of(value.location)) != viewed) continue;
      holders.push_back(value.holder);
      found += value.location.size;
    }
  }
  return holders;
}

void StoreClient::drop(const wire::StoreLocation& location, Instant now) {
  OwnExtent* own = own_extent(location);
  if (own == nullptr || own->owner != Owner::kPrivate) return;
  forget_holder(*own);
  if (const auto pin = pin_of_.find(key_of(location)); pin != pin_of_.end()) {
    views_[pin->second].dropped = true;  // The last view frees it.
    return;
  }
  own_.at(location.segment).segment->view().drop(location);
  free_own(location, now);
}

Result<void> StoreClient::on_extents_freed(std::span<const wire::StoreLocation> locations,
                                           Instant now) {
  for (const wire::StoreLocation& location : locations) {
    const OwnExtent* own = own_extent(location);
    if (own == nullptr || own->owner != Owner::kDaemon) {
      return fail(ErrorCode::kInvalidArgument, "an extent came back that was not given away");
    }
    free_own(location, now);
  }
  return {};
}

StoreClient::OwnExtent* StoreClient::own_extent(const wire::StoreLocation& location) {
  const auto own = own_.find(location.segment);
  if (own == own_.end() || location.entry >= own->second.extents.size()) return nullptr;
  OwnExtent& extent = own->second.extents[location.entry];
  return extent.generation == location.generation && extent.owner != Owner::kNobody ? &extent
                                                                                    : nullptr;
}

void StoreClient::free_own(const wire::StoreLocation& location, Instant now) {
  own_.at(location.segment).extents[location.entry].owner = Owner::kNobody;
  const bool in_file = file_slabs_.owns(location.segment);
  store::SlabAllocator& slabs = in_file ? file_slabs_ : slabs_;
  MOBULA_CHECK(slabs.free(location.segment, location.entry, now).has_value());
  tell_bytes();
  has_empty_file_ = has_empty_file_ || (in_file && slabs.is_empty(location.segment));
}

void StoreClient::tell_bytes() {
  if (options_.stored_bytes == nullptr) return;
  options_.stored_bytes->store(slabs_.bytes_in_use(), std::memory_order_relaxed);
}

// ---- reading -----------------------------------------------------------------------------------

StoreClient::Key StoreClient::key_of(const wire::StoreLocation& location) {
  return {uint64_t{number(location.segment)} << 32 | location.entry, location.generation};
}

const wire::StoreLocation& StoreClient::place_of(const wire::StoreLocation& value) const {
  const auto moved = places_.find(key_of(value));
  return moved == places_.end() ? value : moved->second;
}

void StoreClient::set_place(const wire::StoreLocation& value, const wire::StoreLocation& place) {
  if (key_of(value) == key_of(place)) {
    places_.erase(key_of(value));
  } else {
    places_[key_of(value)] = place;
  }
}

bool StoreClient::may_be_here(const wire::StoreLocation& value) const {
  const wire::StoreLocation& place = place_of(value);
  if (const auto own = own_.find(place.segment); own != own_.end()) {
    return own->second.segment->view().is_sealed(place);
  }
  const auto other = readable_.find(place.segment);
  if (other == readable_.end()) return true;
  return !other->second.gone && other->second.segment->view.is_sealed(place);
}

Result<std::variant<StoredView, NeedOpen>> StoreClient::open(const wire::StoreLocation& value) {
  // The copy is ours: the table may lose the entry meanwhile.
  const wire::StoreLocation place = place_of(value);
  if (place.size != value.size) {
    return fail(ErrorCode::kInvalidArgument, "the daemon named a place of another size");
  }
  return open_place(place);
}

Result<std::variant<StoredView, NeedOpen>> StoreClient::open_place(
    const wire::StoreLocation& location) {
  const std::byte* memory = nullptr;
  const shm::SegmentView* segment = nullptr;
  Readable* readable = nullptr;
  if (const auto own = own_.find(location.segment); own != own_.end()) {
    memory = own->second.segment->data();
    segment = &own->second.segment->view();
  } else if (const auto other = readable_.find(location.segment); other != readable_.end()) {
    readable = &other->second;
    if (readable->gone) return fail(ErrorCode::kNotFound, "the stored object's segment is gone");
    memory = readable->segment->mapping.data();
    segment = &readable->segment->view;
  } else {
    return NeedOpen{location.segment};
  }
  MOBULA_TRY(segment->check_location(location));
  const auto [known, is_new] = pin_of_.try_emplace(key_of(location), 0);
  if (is_new) {
    const Result<uint32_t> pin = pins_.pin(*segment, location);
    if (!pin) {
      pin_of_.erase(known);
      return tl::unexpected(pin.error());
    }
    known->second = *pin;
    if (views_.size() <= *pin) views_.resize(*pin + 1);
    views_[*pin] = {location, 0, false};
    if (readable != nullptr) readable->views++;
  }
  views_[known->second].count++;
  return StoredView{{memory + location.offset, location.size}, known->second};
}

void StoreClient::add_readable(std::unique_ptr<ReadSegment> segment) {
  const SegmentId id = segment->id;
  if (own_.contains(id) || readable_.contains(id)) {
    retired_.readable.push_back(std::move(segment));  // Two threads asked.
    return;
  }
  readable_[id].segment = std::move(segment);
}

std::optional<PlaceInFile> StoreClient::file_of(uint32_t pin) const {
  MOBULA_CHECK(pin < views_.size() && views_[pin].count > 0);
  const wire::StoreLocation& place = views_[pin].location;
  std::shared_ptr<const shm::Fd> file;
  if (const auto own = own_.find(place.segment); own != own_.end()) {
    file = own->second.segment->file();
  } else if (const auto other = readable_.find(place.segment); other != readable_.end()) {
    file = other->second.segment->file;
  }
  if (file == nullptr) return std::nullopt;
  return PlaceInFile{std::move(file), place.offset, place.size};
}

void StoreClient::unpin(uint32_t pin, Instant now) {
  MOBULA_CHECK(pin < views_.size() && views_[pin].count > 0);
  View& view = views_[pin];
  if (--view.count > 0) return;
  const wire::StoreLocation location = view.location;
  pin_of_.erase(key_of(location));
  pins_.unpin(pin);
  if (const auto own = own_.find(location.segment); own != own_.end()) {
    if (std::exchange(view.dropped, false)) {
      own->second.segment->view().drop(location);
      free_own(location, now);
    }
    return;
  }
  const auto readable = readable_.find(location.segment);
  if (readable == readable_.end()) return;
  if (--readable->second.views == 0 && readable->second.gone) retire(location.segment);
}

void StoreClient::on_segment_gone(SegmentId segment) {
  const auto found = readable_.find(segment);
  if (found == readable_.end()) return;
  found->second.gone = true;
  if (found->second.views == 0) retire(segment);
}

void StoreClient::retire(SegmentId segment) {
  const auto found = readable_.find(segment);
  retired_.readable.push_back(std::move(found->second.segment));
  readable_.erase(found);
}

// ---- giving back -------------------------------------------------------------------------------

std::vector<std::shared_ptr<OwnSegment>> StoreClient::take_empty(Instant now, bool wanted) {
  std::vector<std::shared_ptr<OwnSegment>> taken;
  std::vector<SegmentId> ids = slabs_.take_empty(wanted ? now : now - options_.keep_empty);
  for (const SegmentId id : file_slabs_.take_empty(now)) ids.push_back(id);
  has_empty_file_ = false;
  for (const SegmentId id : ids) {
    const auto own = own_.find(id);
    own->second.segment->stop_populating();
    taken.push_back(std::move(own->second.segment));
    own_.erase(own);
  }
  if (!taken.empty()) ahead_mark_ = std::min(ahead_mark_, slabs_.large_in_use());
  return taken;
}

void StoreClient::check_invariants() const {
  slabs_.check_invariants();
  file_slabs_.check_invariants();
  MOBULA_CHECK(own_.size() == slabs_.segment_count() + file_slabs_.segment_count());
  MOBULA_CHECK(pins_.pinned() == pin_of_.size());
  std::unordered_map<SegmentId, uint32_t> views;
  for (const auto& [key, pin] : pin_of_) {
    MOBULA_CHECK(views_[pin].count > 0 && key == key_of(views_[pin].location));
    views[views_[pin].location.segment]++;
  }
  for (const auto& [id, readable] : readable_) {
    MOBULA_CHECK(!own_.contains(id));
    MOBULA_CHECK(readable.views == (views.contains(id) ? views[id] : 0));
    MOBULA_CHECK(!readable.gone || readable.views > 0);
  }
}

}  // namespace mobula::process
