// RuntimeImpl: the object store, as far as this process takes part in it.

#include <cstring>

#include "process/runtime_impl.h"
#include "shm/pins.h"

namespace mobula::process {

namespace {

// Questions to the daemon that one begin_store or open may need: another thread may use up the
// segment that was granted to us.
constexpr int kTriesMax = 16;

WritableExtent& extent_of(const StoreWrite& write) {
  return *static_cast<WritableExtent*>(write.internal);
}

std::optional<wire::StoreLocation> location_of(const Object& object) {
  if (!object.is_ready() || object.value.kind() != wire::ValueKind::kInStore) return std::nullopt;
  wire::StoreLocation location{};
  std::memcpy(&location, object.value.payload().data(), sizeof location);
  return location;
}

}  // namespace

void StoreWrite::copy(size_t offset, std::span<const std::byte> from) {
  MOBULA_CHECK(offset <= size && from.size() <= size - offset);
  extent_of(*this).copy(offset, from);
}

void RuntimeImpl::start_store() {
  StoreClient::Options options{};
  options.process = process_;
  store_ = std::make_unique<StoreClient>(options, home_memory_.data() + shm::kPinsOffset);
}

Result<StoreWrite> RuntimeImpl::begin_store(size_t size, Gate& gate) {
  Locked lock(*this);
  drain_dropped();
  for (int tries = 0; tries < kTriesMax; ++tries) {
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    auto created = store_->create(size);
    if (auto* extent = std::get_if<WritableExtent>(&created)) {
      StoreWrite write;
      write.location = extent->location;
      write.data = extent->data;
      write.size = size;
      write.internal = new WritableExtent(std::move(*extent));
      return write;
    }
    MOBULA_TRY(ask_segment(std::get<NeedSegment>(created), lock, gate));
  }
  return fail(ErrorCode::kRetryLater, "other threads took the store memory that was granted");
}

Result<void> RuntimeImpl::ask_segment(const NeedSegment& need, Locked& lock, Gate& gate) {
  Question question;
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  uplink_->send([&](wire::Builder& builder) {
    return wire::fb::CreateSegmentRequest(builder, request, need.bytes);
  });
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kRetryLater));
  lock.unlock();
  auto segment = OwnSegment::map(SegmentId{question.segment}, std::move(question.segment_fd),
                                 question.segment_bytes);
  lock.lock();
  MOBULA_TRY(segment);
  return store_->add_own(std::move(*segment), need, monotonic_now());
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
  delete &extent_of(write);
  write.internal = nullptr;
}

Object* RuntimeImpl::put_stored(StoreWrite& write, std::vector<Object*> refs) {
  Locked lock(*this);
  seal_store(write);
  Object* object = new_object();
  object->value.assign(stored_value(write.location));
  object->inner = std::move(refs);
  object->ready.store(true, std::memory_order_release);
  return object;
}

std::vector<std::byte> RuntimeImpl::stored_value(const wire::StoreLocation& location) {
  const wire::ValueHeader header{sizeof location, 0, wire::ValueKind::kInStore, {}};
  std::vector<std::byte> bytes(sizeof header + sizeof location);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &location, sizeof location);
  return bytes;
}

Result<Runtime::Pinned> RuntimeImpl::open_stored(const Object& object, Gate& gate) {
  const auto location = location_of(object);
  MOBULA_CHECK(location.has_value());
  return open_location(*location, gate);
}

Result<Runtime::Pinned> RuntimeImpl::open_location(const wire::StoreLocation& location,
                                                   Gate& gate) {
  Locked lock(*this);
  for (int tries = 0; tries < kTriesMax; ++tries) {
    auto opened = store_->open(location);
    MOBULA_TRY(opened);
    if (const auto* view = std::get_if<StoredView>(&*opened)) return Pinned{view->bytes, view->pin};
    if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
    MOBULA_TRY(ask_open(std::get<NeedOpen>(*opened).segment, lock, gate));
  }
  return fail(ErrorCode::kRetryLater, "the segment of the object could not be opened");
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
}

void RuntimeImpl::free_stored_bytes(Object& object) {
  if (const auto location = location_of(object)) store_->drop(*location, monotonic_now());
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
      answer_opening(SegmentId{gone.segment()},
                     gone.message() != nullptr ? gone.message()->str() : "the segment is gone");
      return true;
    }
    case DownlinkBody::SegmentsWanted:
      return_segments(true);
      return true;
    case DownlinkBody::ExtentsFreed: {
      Locked lock(*this);
      const auto locations = wire::read_locations(message.body_as_ExtentsFreed()->locations());
      // A location that is not ours to free is the daemon's mistake; the others were freed.
      (void)store_->on_extents_freed(locations, monotonic_now());
      return true;
    }
    default:
      return false;
  }
}

void RuntimeImpl::on_segment_granted(const wire::fb::SegmentGranted& message,
                                     std::vector<shm::Fd>& fds) {
  Locked lock(*this);
  const auto found = questions_.find(message.request());
  if (found == questions_.end()) {
    // Whoever asked was interrupted.
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateSegmentReturn(builder, message.segment());
    });
    return ring_daemon_later();
  }
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
  Locked lock(*this);
  if (!segment.has_value()) return answer_opening(id, segment.error().message);
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
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateSegmentReturn(builder, number(segment->id()));
    });
    ring_daemon_later();
  }
  if (store_->has_retired()) retired = store_->take_retired();
  lock.unlock();
}

}  // namespace mobula::process
