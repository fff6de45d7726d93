// RuntimeImpl: the object store, as far as this process takes part in it.

#include <algorithm>
#include <cstring>

#include "process/private_bytes.h"
#include "process/runtime_impl.h"
#include "shm/pins.h"
#include "shm/stored_bytes.h"

namespace mobula::process {

namespace {

// Questions to the daemon that one begin_store or open may need: another thread may use up the
// segment that was granted to us.
constexpr int kTriesMax = 16;
// The daemon refuses when there is no progress; this is for a daemon that is not well.
constexpr auto kStorePatience = std::chrono::hours(1);
// A value on disk is there: reading it back is given a moment, whatever the caller's time limit.
constexpr Duration kReadBackMin = std::chrono::milliseconds(100);
// What is read back ahead of a get of many.
constexpr size_t kPrefetchMax = 16;
constexpr uint64_t kPrefetchBytesMax = 64ULL << 20;

std::array<uint32_t, 3> name_of(const wire::StoreLocation& value) {
  return {number(value.segment), value.entry, value.generation};
}

WritableExtent& extent_of(const StoreWrite& write) {
  return *static_cast<WritableExtent*>(write.internal);
}

std::optional<wire::StoreLocation> location_of(const Object& object) {
  if (!object.is_ready() || object.value.kind() != wire::ValueKind::kInStore) return std::nullopt;
  wire::StoreLocation location{};
  std::memcpy(&location, object.value.payload().data(), sizeof location);
  return location;
}

void send_return(Uplink& uplink, uint32_t segment) {
  uplink.send(
      [&](wire::Builder& builder) { return wire::fb::CreateSegmentReturn(builder, segment); });
}

Result<std::shared_ptr<OwnSegment>> map_granted(const wire::fb::SegmentGranted& granted,
                                                std::vector<shm::Fd>& fds) {
  if (fds.empty()) return fail(ErrorCode::kInvalidArgument, "a segment without its descriptor");
  return OwnSegment::map(SegmentId{granted.segment()}, std::move(fds[0]), granted.bytes());
}

}  // namespace

void StoreWrite::copy(size_t offset, std::span<const std::byte> from) {
  MOBULA_CHECK(offset <= size && from.size() <= size - offset);
  extent_of(*this).copy(offset, from);
}

void RuntimeImpl::start_store() {
  StoreClient::Options options{};
  options.process = process_;
  options.stored_bytes = &shm::stored_bytes(home_memory_.data());
  store_ = std::make_unique<StoreClient>(options, home_memory_.data() + shm::kPinsOffset);
}

Result<StoreWrite> RuntimeImpl::begin_store(size_t size, Gate& gate) {
  Locked lock(*this);
  drain_dropped();
  const auto begin = [size](WritableExtent extent) {
    StoreWrite write;
    write.location = extent.location;
    write.data = extent.data;
    write.size = size;
    write.internal = new WritableExtent(std::move(extent));
    return write;
  };
  for (int tries = 0; tries < kTriesMax; ++tries) {
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    auto created = store_->create(size);
    if (auto* extent = std::get_if<WritableExtent>(&created)) return begin(std::move(*extent));
    Question question;
    question.wanted_bytes = size;
    MOBULA_TRY(ask_segment(std::get<NeedSegment>(created), question, lock, gate));
    if (question.extent) return begin(std::move(*question.extent));
  }
  return fail(ErrorCode::kRetryLater, "other threads took the store memory that was granted");
}

// Afterwards there is a segment more, or question.extent.
Result<void> RuntimeImpl::ask_segment(const NeedSegment& need, Question& question, Locked& lock,
                                      Gate& gate) {
  question.patience = kStorePatience;
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateSegmentRequest(builder, request, need.bytes);
  });
  ring_daemon_later();
  const Result<void> answered =
      wait_for_answer(request, question, lock, gate, ErrorCode::kRetryLater);
  if (!question.segment_fd.valid() && disconnected_.empty()) {
    // It may have been granted meanwhile: then it is returned when it comes.
    uplink_->send(
        [&](wire::Builder& builder) { return wire::fb::CreateSegmentCancel(builder, request); });
    ring_daemon_later();
  }
  MOBULA_TRY(answered);
  if (question.extent) return {};
  lock.unlock();
  auto segment = OwnSegment::map(SegmentId{question.segment}, std::move(question.segment_fd),
                                 question.segment_bytes);
  lock.lock();
  MOBULA_TRY(segment);
  return store_->add_own(std::move(*segment), need, monotonic_now());
}

// Something became free: who waits for a segment may not need one any more.
void RuntimeImpl::serve_waiting() {
  for (auto& [request, question] : questions_) {
    if (question->wanted_bytes == 0 || question->done) continue;
    auto created = store_->create(question->wanted_bytes);
    auto* extent = std::get_if<WritableExtent>(&created);
    if (extent == nullptr) continue;
    question->extent = std::move(*extent);
    question->done = true;
    answered_.notify_all();
  }
}

void RuntimeImpl::abandon_store(StoreWrite& write) {
  Locked lock(*this);
  discard_store(write);
}

void RuntimeImpl::discard_store(StoreWrite& write) {
  if (write.internal == nullptr) return;
  store_->abandon(extent_of(write), monotonic_now());
  delete &extent_of(write);
  write.internal = nullptr;
}

void RuntimeImpl::seal_store(StoreWrite& write) {
  MOBULA_CHECK(write.internal != nullptr);
  store_->seal(extent_of(write));
  // The next large value finds memory that is mapped, unless it comes too soon.
  if (const auto ahead = store_->want_ahead(write.size, next_question_)) {
    const uint64_t request = next_question_++;
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateSegmentRequest(builder, request, ahead->bytes, true);
    });
    ring_daemon_later();
  }
  delete &extent_of(write);
  write.internal = nullptr;
}

Object* RuntimeImpl::put_stored(StoreWrite& write, std::vector<Object*> refs) {
  Locked lock(*this);
  seal_store(write);
  Object* object = new_object();
  object->value.assign(stored_value(write.location));
  store_->set_holder(write.location, object, monotonic_now());
  object->inner = std::move(refs);
  object->was_put = true;
  object->ready.store(true, std::memory_order_release);
  return object;
}

std::vector<std::byte> stored_value(const wire::StoreLocation& location) {
  const wire::ValueHeader header{sizeof location, 0, wire::ValueKind::kInStore, {}};
  std::vector<std::byte> bytes(sizeof header + sizeof location);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &location, sizeof location);
  return bytes;
}

Result<Runtime::Pinned> RuntimeImpl::open_stored(const Object& object, Deadline deadline,
                                                 Gate& gate) {
  const auto location = location_of(object);
  MOBULA_CHECK(location.has_value());
  return open_location(*location, deadline, gate);
}

Result<Runtime::Pinned> RuntimeImpl::open_location(const wire::StoreLocation& location,
                                                   Deadline deadline, Gate& gate) {
  Locked lock(*this);
  for (int tries = 0; tries < kTriesMax; ++tries) {
    auto opened = store_->open(location);
    if (opened.has_value()) {
      if (const auto* view = std::get_if<StoredView>(&*opened)) {
        return Pinned{view->bytes, view->pin};
      }
    }
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    const Result<void> found = opened.has_value()
                                   ? ask_open(std::get<NeedOpen>(*opened).segment, lock, gate)
                                   : Result<void>(tl::unexpected(opened.error()));
    if (found.has_value()) continue;
    if (found.error().code != ErrorCode::kNotFound) return tl::unexpected(found.error());
    MOBULA_TRY(
        ask_place(location, deadline, lock, gate));  // Spilled, or it was and lies elsewhere now.
  }
  return fail(ErrorCode::kRetryLater,
              "the object was read back from disk again and again, and each time others needed the "
              "room before it could be looked at");
}

Result<void> RuntimeImpl::ask_place(const wire::StoreLocation& value, Deadline deadline,
                                    Locked& lock, Gate& gate) {
  Question question;
  question.patience = kStorePatience;
  if (deadline) question.patience = std::max(*deadline - monotonic_now(), kReadBackMin);
  const auto [lookup, is_new] = lookups_.try_emplace(name_of(value));
  lookup->second.push_back(&question);
  if (is_new) {
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateStoredLookup(builder, wire::build_locations(builder, {&value, 1}));
    });
    ring_daemon_later();
  }
  Result<void> answered = wait_for_answer(0, question, lock, gate, ErrorCode::kNotFound);
  if (const auto found = lookups_.find(name_of(value)); found != lookups_.end()) {
    std::erase(found->second, &question);
  }
  const bool too_late = deadline && !question.done && disconnected_.empty() &&
                        monotonic_now() >= *deadline && !answered &&
                        answered.error().code != ErrorCode::kCancelled;
  if (too_late) return fail(ErrorCode::kRetryLater, "it was not read back from disk in time");
  return answered;
}

void RuntimeImpl::prefetch(std::span<Object* const> objects) {
  Locked lock(*this);
  if (!disconnected_.empty()) return;
  std::vector<wire::StoreLocation> wanted;
  uint64_t bytes = 0;
  for (const Object* object : objects.first(std::min(objects.size(), kPrefetchMax))) {
    if (bytes >= kPrefetchBytesMax) break;
    const auto location = location_of(*object);
    if (!location || store_->may_be_here(*location)) continue;
    if (!lookups_.try_emplace(name_of(*location)).second) continue;
    wanted.push_back(*location);
    bytes += location->size;
  }
  if (wanted.empty()) return;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateStoredLookup(builder, wire::build_locations(builder, wanted));
  });
  ring_daemon_later();
}

void RuntimeImpl::on_stored_at(const wire::fb::StoredAt& message) {
  const wire::StoreLocation value = wire::from_wire(*message.value());
  const auto lookup = lookups_.extract(name_of(value));
  if (lookup.empty()) return;
  std::string error = message.error() != nullptr ? message.error()->str() : "";
  if (message.place() != nullptr) {
    store_->set_place(value, wire::from_wire(*message.place()));
  } else if (error.empty()) {
    error = "the daemon does not say where the object is";
  }
  for (Question* question : lookup.mapped()) {
    using wire::fb::StoredProblem;
    if (message.problem() == StoredProblem::store_full) question->refused = ErrorCode::kRetryLater;
    if (message.problem() == StoredProblem::disk_full) question->refused = ErrorCode::kDiskFull;
    question->error = error;
    question->done = true;
  }
  answered_.notify_all();
}

// The daemon can only spill what it knows.
void RuntimeImpl::share_private(uint64_t bytes) {
  std::vector<Object*> objects;
  for (void* holder : store_->oldest_private(bytes)) {
    objects.push_back(static_cast<Object*>(holder));
  }
  // One whose last count was dropped is about to be freed.
  std::erase_if(objects, [](const Object* object) { return object->count.load() == 0; });
  share(objects);
}

// Answers name the segment, not the request: they are filed under a number made from it.
Result<void> RuntimeImpl::ask_open(SegmentId segment, Locked& lock, Gate& gate) {
  Question question;
  openings_.emplace(segment, &question);
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateSegmentOpen(builder, number(segment));
  });
  ring_daemon_later();
  Result<void> answered = wait_for_answer(0, question, lock, gate, ErrorCode::kNotFound);
  std::erase_if(openings_, [&](const auto& entry) { return entry.second == &question; });
  return answered;
}

void RuntimeImpl::unpin(uint64_t pin) {
  Locked lock(*this);
  store_->unpin(static_cast<uint32_t>(pin), monotonic_now());
  if (store_->has_rest()) wake_reader_thread();
}

std::optional<PlaceInFile> RuntimeImpl::file_of(uint64_t pin) {
  Locked lock(*this);
  return store_->file_of(static_cast<uint32_t>(pin));
}

// There is one kind of runtime.
Result<shm::PrivateMapping> map_private(Runtime& runtime, uint64_t pin) {
  const auto place = static_cast<RuntimeImpl&>(runtime).file_of(pin);
  if (!place) return fail(ErrorCode::kUnavailable, "the segment's descriptor was not kept");
  auto mapping = shm::PrivateMapping::map(*place->file, place->offset, place->size);
  if (!mapping) return fail(ErrorCode::kUnavailable, mapping.error().message);
  return mapping;
}

void RuntimeImpl::free_stored_bytes(Object& object) {
  const auto location = location_of(object);
  if (!location) return;
  store_->drop(*location, monotonic_now());
  store_->forget_place(*location);
  if (store_->has_rest()) wake_reader_thread();
}

// The daemon's entry, or a parcel, owns the bytes from now on.
void RuntimeImpl::give_away_bytes(const Object& object) {
  if (const auto location = location_of(object)) store_->give_away(*location);
}

// On the link thread, without the lock: mapping is a system call.
bool RuntimeImpl::on_store_packet(const wire::fb::ToProcess& message, std::vector<shm::Fd>& fds) {
  using wire::fb::DownlinkBody;
  switch (message.body_type()) {
    case DownlinkBody::SegmentGranted:
      on_segment_granted(*message.body_as_SegmentGranted(), fds);
      return true;
    case DownlinkBody::SegmentRefused: {
      const auto& refused = *message.body_as_SegmentRefused();
      Locked lock(*this);
      if (store_->end_ahead(refused.request())) return true;
      const auto found = questions_.find(refused.request());
      if (found != questions_.end() && refused.disk_is_full()) {
        found->second->refused = ErrorCode::kDiskFull;
      }
      answer_question(refused.request(), refused.message()->str());
      return true;
    }
    case DownlinkBody::SegmentOpened:
      on_segment_opened(*message.body_as_SegmentOpened(), fds);
      return true;
    case DownlinkBody::SegmentGone: {
      const auto& gone = *message.body_as_SegmentGone();
      Locked lock(*this);
      store_->on_segment_gone(SegmentId{gone.segment()});
      if (store_->has_rest()) wake_reader_thread();
      answer_opening(SegmentId{gone.segment()},
                     gone.message() != nullptr ? gone.message()->str() : "the segment is gone");
      return true;
    }
    case DownlinkBody::SegmentsWanted: {
      {
        Locked lock(*this);
        drain_dropped();
        serve_waiting();
        share_private(message.body_as_SegmentsWanted()->share_bytes());
      }
      return_segments(true);
      return true;
    }
    case DownlinkBody::ExtentsFreed:
      on_extents_freed(*message.body_as_ExtentsFreed());
      return true;
    case DownlinkBody::StoredAt: {
      Locked lock(*this);
      on_stored_at(*message.body_as_StoredAt());
      return true;
    }
    default:
      return false;
  }
}

void RuntimeImpl::on_extents_freed(const wire::fb::ExtentsFreed& message) {
  {
    Locked lock(*this);
    // A location that is not ours to free is the daemon's mistake; the others were freed.
    (void)store_->on_extents_freed(wire::read_locations(message.locations()), monotonic_now());
    if (store_->has_rest()) wake_reader_thread();
    serve_waiting();
  }
  if (message.segments_wanted()) return_segments(true);
}

void RuntimeImpl::on_segment_granted(const wire::fb::SegmentGranted& message,
                                     std::vector<shm::Fd>& fds) {
  Locked lock(*this);
  const auto send_back = [&] {
    send_return(*uplink_, message.segment());
    ring_daemon_later();
  };
  if (const auto ahead = store_->end_ahead(message.request())) {
    lock.unlock();
    const auto segment = map_granted(message, fds);
    lock.lock();
    const bool added = segment && store_->add_own(*segment, *ahead, monotonic_now());
    if (added) {
      serve_waiting();
    } else {
      send_back();
    }
    lock.unlock();
    if (!added) return;
    const OwnSegment& mapped = **segment;
    return store_->populator().ask(*segment, mapped.view().data_offset(), mapped.file_bytes());
  }
  const auto found = questions_.find(message.request());
  // Whoever asked was interrupted, or has found room meanwhile.
  if (found == questions_.end() || found->second->done) return send_back();
  if (fds.empty()) return answer_question(message.request(), "a segment without its descriptor");
  found->second->segment = message.segment();
  found->second->segment_bytes = message.bytes();
  found->second->segment_fd = std::move(fds[0]);
  answer_question(message.request(), "");
}

void RuntimeImpl::on_segment_opened(const wire::fb::SegmentOpened& message,
                                    std::vector<shm::Fd>& fds) {
  const SegmentId id{message.segment()};
  if (fds.empty()) {
    Locked lock(*this);
    return answer_opening(id, "a segment without its descriptor");
  }
  auto segment = ReadSegment::map(id, fds[0], message.bytes());
  auto file = std::make_shared<const shm::Fd>(std::move(fds[0]));
  Locked lock(*this);
  if (!segment.has_value()) return answer_opening(id, segment.error().message);
  if (store_->wants_file()) (*segment)->file = std::move(file);
  store_->add_readable(std::move(*segment));
  answer_opening(id, "");
}

void RuntimeImpl::answer_question(uint64_t request, std::string error) {
  const auto found = questions_.find(request);
  if (found == questions_.end()) return;
  found->second->error = std::move(error);
  found->second->done = true;
  answered_.notify_all();
}

void RuntimeImpl::answer_opening(SegmentId segment, const std::string& error) {
  const auto [first, last] = openings_.equal_range(segment);
  for (auto entry = first; entry != last; ++entry) {
    entry->second->error = error;
    entry->second->done = true;
  }
  answered_.notify_all();
}

// Empty segments go back to the daemon; what is retired is unmapped, without the lock.
void RuntimeImpl::return_segments(bool wanted) {
  std::vector<std::shared_ptr<OwnSegment>> empty;
  StoreClient::Retired retired;
  Locked lock(*this);
  empty = store_->take_empty(monotonic_now(), wanted);
  for (const auto& segment : empty) {
    send_return(*uplink_, number(segment->id()));
    ring_daemon_later();
  }
  if (store_->has_retired()) retired = store_->take_retired();
  lock.unlock();
}

}  // namespace mobula::process
