#include "core/store/spiller.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mobula::store {

namespace {

constexpr const char* kNoObject = "the object does not exist any more";
// What turned out to be pinned is left alone for a while.
constexpr auto kPinnedRest = std::chrono::milliseconds(100);

// A file takes a while to be made: another request may have taken the place of the one that it is for.
void forget_answered(std::optional<SegmentRequest>& own, const StoreBooks& books) {
  const std::vector<SegmentRequest> waiting = books.waiting_requests();
  const bool waits = own && std::ranges::any_of(waiting, [&](const SegmentRequest& request) {
                       return request.process == kDaemonProcess && request.number == own->number;
                     });
  if (!waits) own.reset();
}

}  // namespace

// ---- what the directory says -------------------------------------------------------------------

void Spiller::adopt(const wire::StoreLocation& name, Instant now) {
  if (!books_.exists(name.segment)) return;  // Named by mistake, after its writer gave it back.
  const auto [found, is_new] = values_.try_emplace(name_of(name));
  if (!is_new) return;
  Value& value = found->second;
  value.name = name;
  value.since = now;
  value.made = now;
  books_.adopt(name);
  if (books_.is_in_file(name.segment)) return enter_file(value, name, now);
  enter_memory(value, name);
}

void Spiller::free(const wire::StoreLocation& name, Effects& effects, SpillEffects& spill) {
  const auto found = values_.find(name_of(name));
  if (found == values_.end()) return;
  found->second.freed = true;
  fail_restore(found->second, RestoreProblem::kLost, kNoObject, spill);
  forget(found, effects, spill);
}

// Of a freed value; later, if something of it is on its way.
void Spiller::forget(Values::iterator found, Effects& effects, SpillEffects& spill) {
  Value& value = found->second;
  if (value.evicting || value.state == State::kWriting || value.state == State::kReading) return;
  drop_copy(value, spill);
  if (in_memory(value.state)) {
    const wire::StoreLocation place = value.place;
    leave_memory(value);
    books_.free_extent(place, effects);
  } else if (value.state == State::kFile) {
    totals_.in_file_values--;
    totals_.in_file_bytes -= value.name.size;
    books_.free_extent(value.place, effects);
  }
  values_.erase(found);
}

void Spiller::on_unpinned(const wire::StoreLocation& place, Instant now, Effects& effects) {
  const bool was_in_memory = !books_.is_in_file(place.segment);
  books_.on_unpinned(place, effects);
  if (owns(place.segment)) free_own(place, now);
  if (was_in_memory) books_.on_progress(now);
}

// ---- states ------------------------------------------------------------------------------------

void Spiller::set_state(Value& value, State state, Instant now) {
  if (value.state == State::kBoth) clean_bytes_ -= value.name.size;
  if (value.state == State::kWriting) writing_bytes_ -= value.name.size;
  value.state = state;
  value.since = now;
  if (state == State::kBoth) clean_bytes_ += value.name.size;
  if (state == State::kWriting) writing_bytes_ += value.name.size;
}

void Spiller::touch(Value& value) {
  if (value.order != 0) lru_.erase(value.order);
  value.order = next_order_++;
  lru_[value.order] = name_of(value.name);
}

void Spiller::enter_memory(Value& value, const wire::StoreLocation& place) {
  value.place = place;
  places_[name_of(place)] = name_of(value.name);
  memory_bytes_ += value.name.size;
  touch(value);
}

void Spiller::enter_file(Value& value, const wire::StoreLocation& place, Instant now) {
  set_state(value, State::kFile, now);
  value.place = place;
  totals_.in_file_values++;
  totals_.in_file_bytes += value.name.size;
}

void Spiller::leave_memory(Value& value) {
  places_.erase(name_of(value.place));
  lru_.erase(value.order);
  value.order = 0;
  memory_bytes_ -= value.name.size;
  if (value.state == State::kBoth) clean_bytes_ -= value.name.size;
  value.state = State::kDisk;  // Or about to be forgotten.
}

void Spiller::drop_copy(Value& value, SpillEffects& spill) {
  const bool on_disk = value.state == State::kBoth || value.state == State::kDisk;
  if (!on_disk) return;
  files_.drop(value.copy, spill);
  if (value.state == State::kDisk) totals_.disk_values--;
  if (value.state == State::kBoth) {
    clean_bytes_ -= value.name.size;
    value.state = State::kMemory;
  }
}

// ---- restoring ---------------------------------------------------------------------------------

Result<void> Spiller::restore(ProcessId process, const wire::StoreLocation& name, Instant now,
                              SpillEffects& spill) {
  const auto found = values_.find(name_of(name));
  if (found == values_.end() || found->second.freed) {
    spill.emplace_back(TellNoPlace{process, name, RestoreProblem::kLost, kNoObject});
    return {};
  }
  if (restores_waiting_ >= options_.restores_max) {
    return fail(ErrorCode::kRetryLater, "too many values are to be read back at once");
  }
  Value& value = found->second;
  value.waiting.push_back(process);
  restores_waiting_++;
  if (value.state == State::kLost) {
    fail_restore(value, RestoreProblem::kLost, value.why_lost, spill);
  } else if (value.state == State::kFile || (in_memory(value.state) && !value.evicting)) {
    tell(value, now, spill);
  } else if (value.state == State::kDisk) {
    queue_restore(value);
  }
  return {};
}

void Spiller::prefetch(const wire::StoreLocation& name, Instant now, SpillEffects& spill) {
  const auto found = values_.find(name_of(name));
  if (found == values_.end() || found->second.state != State::kDisk) return;
  if (!restores_.empty() || reads_ >= options_.reads_max || books_.waiting() > 0) return;
  start_read(found->second, now, spill);
}

void Spiller::queue_restore(Value& value) {
  if (std::exchange(value.queued, true)) return;
  restores_.push_back(name_of(value.name));
}

void Spiller::tell(Value& value, Instant now, SpillEffects& spill) {
  if (in_memory(value.state)) touch(value);
  value.protected_until =
      std::max(value.protected_until, now + std::max(value.protect, options_.protect));
  for (const ProcessId process : value.waiting) {
    spill.emplace_back(TellPlace{process, value.name, value.place});
  }
  restores_waiting_ -= value.waiting.size();
  value.waiting.clear();
}

// If it had to come back soon after that, it had left before somebody who is slow could look at it.
void Spiller::lengthen_protection(Value& value, Instant now) {
  const bool again =
      value.protect > Duration(0) && now - value.protected_until < options_.protect_max;
  value.protect = again ? std::min(2 * value.protect, options_.protect_max) : options_.protect;
}

void Spiller::fail_restore(Value& value, RestoreProblem problem, const std::string& why,
                           SpillEffects& spill) {
  for (const ProcessId process : value.waiting) {
    spill.emplace_back(TellNoPlace{process, value.name, problem, why});
  }
  restores_waiting_ -= value.waiting.size();
  value.waiting.clear();
}

void Spiller::on_process_buried(ProcessId process) {
  for (auto& [name, value] : values_) {
    restores_waiting_ -= std::erase(value.waiting, process);
  }
}

std::vector<ProcessId> Spiller::waiting_for_room() const {
  std::vector<ProcessId> waiting;
  for (const ValueName& name : restores_) {
    const auto found = values_.find(name);
    if (found == values_.end()) continue;
    const std::vector<ProcessId>& its = found->second.waiting;
    waiting.insert(waiting.end(), its.begin(), its.end());
  }
  return waiting;
}

void Spiller::refuse_restores(ProcessId process, const std::string& why, SpillEffects& spill) {
  for (const ValueName& name : restores_) {
    const auto found = values_.find(name);
    if (found == values_.end() || found->second.state != State::kDisk) continue;
    const size_t count = std::erase(found->second.waiting, process);
    restores_waiting_ -= count;
    for (size_t i = 0; i < count; ++i) {
      spill.emplace_back(TellNoPlace{process, found->second.name, RestoreProblem::kStoreFull, why});
    }
  }
}

std::optional<Extent> Spiller::allocate_own(uint64_t size) {
  const std::optional<Extent> extent = slabs_.allocate(size);
  return extent ? extent : file_slabs_.allocate(size);
}

void Spiller::free_own(const wire::StoreLocation& place, Instant now) {
  SlabAllocator& slabs = slabs_.owns(place.segment) ? slabs_ : file_slabs_;
  MOBULA_CHECK(slabs.free(place.segment, place.entry, now).has_value());
}

// False: there is no room.
bool Spiller::start_read(Value& value, Instant now, SpillEffects& spill) {
  const std::optional<Extent> extent = allocate_own(value.name.size);
  if (!extent) return false;
  value.place = {extent->segment, extent->entry, 0, 0, extent->offset, extent->size};
  set_state(value, State::kReading, now);
  totals_.disk_values--;
  reads_++;
  // What was evicted is put to use now. The next one who waits needs some of its own.
  if (slabs_.owns(extent->segment)) evicted_bytes_ -= std::min(evicted_bytes_, value.name.size);
  spill.emplace_back(
      ReadIn{name_of(value.name), value.copy, extent->segment, extent->entry, extent->offset});
  return true;
}

void Spiller::start_reads(Instant now, const Outside& outside, Effects& effects,
                          SpillEffects& spill) {
  while (!restores_.empty() && reads_ < options_.reads_max) {
    const auto found = values_.find(restores_.front());
    const bool is_wanted = found != values_.end() && found->second.queued &&
                           found->second.state == State::kDisk && !found->second.waiting.empty();
    if (is_wanted && !start_read(found->second, now, spill)) {
      if (own_request_) return;
      const uint64_t size = found->second.name.size;
      own_request_ = {kDaemonProcess, next_own_request_++, slabs_.segment_bytes_for(size)};
      const Result<void> asked = books_.request(*own_request_, outside.headroom(), now, effects);
      if (!asked) on_own_refused(asked.error().message, spill);
      return;
    }
    if (found != values_.end()) found->second.queued = false;
    restores_.pop_front();
  }
  if (restores_.empty() && own_request_) {
    books_.cancel(kDaemonProcess, own_request_->number);
    own_request_.reset();
  }
}

void Spiller::on_own_segment(SegmentId segment, const SegmentShape& shape, Instant now) {
  const bool in_file = books_.is_in_file(segment);
  SegmentShape granted = shape;
  // One in a file is no larger than it must be.
  const uint64_t wanted = in_file ? shape.data_bytes : own_request_ ? own_request_->bytes : 0;
  granted.for_one = slabs_.wants_own_segment(wanted);
  forget_answered(own_request_, books_);
  SlabAllocator& slabs = in_file ? file_slabs_ : slabs_;
  MOBULA_CHECK(slabs.add_segment(segment, granted, now).has_value());
}

void Spiller::on_own_refused(const std::string& why, SpillEffects& spill) {
  forget_answered(own_request_, books_);
  for (const ValueName& name : std::exchange(restores_, {})) {
    const auto found = values_.find(name);
    if (found == values_.end()) continue;
    found->second.queued = false;
    if (found->second.state != State::kDisk) continue;
    fail_restore(found->second, RestoreProblem::kStoreFull, why, spill);
  }
}

// ---- what moved --------------------------------------------------------------------------------

void Spiller::on_written(SpillFileId file, const WriteOutcome& outcome, Instant now,
                         Effects& effects, SpillEffects& spill) {
  const auto batch = writes_.extract(file);
  MOBULA_CHECK(!batch.empty());
  const std::vector<ValueName>& names = batch.mapped().values;
  const bool done = outcome.kind == WriteOutcome::Kind::kDone;
  MOBULA_CHECK(!done || outcome.checksums.size() == names.size());
  if (done) {
    files_.add(file, names.size(), batch.mapped().bytes);
    trouble_.clear();
    disk_full_ = false;
    totals_.spilled_bytes += batch.mapped().bytes;
    totals_.spilled_values += names.size();
    books_.on_progress(now);
  } else {
    trouble_ = outcome.why;
    disk_full_ = outcome.kind == WriteOutcome::Kind::kDiskFull;
    write_at_ = now + options_.write_again;
  }
  uint64_t offset = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto found = values_.find(names[i]);
    MOBULA_CHECK(found != values_.end() && found->second.state == State::kWriting);
    Value& value = found->second;
    set_state(value, done ? State::kBoth : State::kMemory, now);
    if (done) value.copy = {file, offset, value.name.size, outcome.checksums[i]};
    offset += value.name.size;
    if (value.freed) forget(found, effects, spill);
  }
}

void Spiller::on_read(const ValueName& name, const ReadOutcome& outcome, Instant now,
                      Effects& effects, SpillEffects& spill) {
  const auto found = values_.find(name);
  MOBULA_CHECK(found != values_.end() && found->second.state == State::kReading);
  Value& value = found->second;
  const wire::StoreLocation& place = outcome.place;
  reads_--;
  if (outcome.ok) {
    books_.adopt(place);
    if (books_.is_in_file(place.segment)) {
      files_.drop(value.copy, spill);
      enter_file(value, place, now);
    } else {
      set_state(value, State::kBoth, now);
      enter_memory(value, place);
    }
    lengthen_protection(value, now);
    totals_.restored_bytes += value.name.size;
    totals_.restored_values++;
    tell(value, now, spill);
  } else {
    free_own(place, now);
    set_state(value, State::kLost, now);
    files_.drop(value.copy, spill);
    totals_.lost_values++;
    value.why_lost = outcome.why;
    fail_restore(value, RestoreProblem::kLost, outcome.why, spill);
    if (!value.freed) spill.emplace_back(ValueLost{value.name, outcome.why});
  }
  if (value.freed) forget(found, effects, spill);
}

void Spiller::on_evicted(const ValueName& name, Instant now, Effects& effects,
                         SpillEffects& spill) {
  const auto found = values_.find(name);
  MOBULA_CHECK(found != values_.end() && found->second.evicting);
  Value& value = found->second;
  MOBULA_CHECK(value.state == State::kBoth);
  const wire::StoreLocation place = value.place;
  value.evicting = false;
  leave_memory(value);
  value.since = now;
  totals_.disk_values++;
  books_.drop_extent(place, effects);
  if (owns(place.segment)) free_own(place, now);
  books_.on_progress(now);
  if (value.freed) return forget(found, effects, spill);
  if (!value.waiting.empty()) queue_restore(value);
}

void Spiller::on_kept(const ValueName& name, Instant now, Effects& effects, SpillEffects& spill) {
  const auto found = values_.find(name);
  MOBULA_CHECK(found != values_.end() && found->second.evicting);
  Value& value = found->second;
  value.evicting = false;
  evicted_bytes_ -= std::min(evicted_bytes_, value.name.size);
  touch(value);
  value.protected_until = std::max(value.protected_until, now + kPinnedRest);
  if (value.freed) return forget(found, effects, spill);
  if (!value.waiting.empty()) tell(value, now, spill);
}

// ---- for people, and for tests -----------------------------------------------------------------

std::optional<Spiller::Seen> Spiller::look(const wire::StoreLocation& name) const {
  const auto found = values_.find(name_of(name));
  if (found == values_.end()) return std::nullopt;
  return seen(found->second);
}

Spiller::Seen Spiller::seen(const Value& value) {
  Seen seen;
  seen.since = value.since;
  seen.made = value.made;
  if (in_memory(value.state) || value.state == State::kFile) seen.place = value.place;
  switch (value.state) {
    case State::kMemory:
      seen.where = Seen::Where::kMemory;
      break;
    case State::kBoth:
      seen.where = Seen::Where::kMemoryAndDisk;
      break;
    case State::kDisk:
      seen.where = Seen::Where::kDisk;
      break;
    case State::kFile:
      seen.where = Seen::Where::kFile;
      break;
    case State::kWriting:
    case State::kReading:
      seen.where = Seen::Where::kMoving;
      break;
    case State::kLost:
      seen.where = Seen::Where::kLost;
      break;
  }
  return seen;
}

Spiller::Totals Spiller::totals() const {
  Totals totals = totals_;
  totals.values = values_.size();
  totals.memory_bytes = memory_bytes_;
  totals.disk_bytes = files_.bytes();
  totals.files = files_.count();
  return totals;
}

std::vector<wire::StoreLocation> Spiller::places() const {
  std::vector<wire::StoreLocation> places;
  for (const auto& [order, name] : lru_) places.push_back(values_.at(name).place);
  return places;
}

void Spiller::check_invariants() const {
  uint64_t memory = 0;
  uint64_t clean = 0;
  uint64_t writing = 0;
  uint64_t copies = 0;
  uint64_t copy_bytes = 0;
  uint64_t on_disk = 0;
  uint64_t in_files = 0;
  uint64_t in_file_bytes = 0;
  size_t reading = 0;
  size_t in_lru = 0;
  size_t waiting = 0;
  for (const auto& [name, value] : values_) {
    MOBULA_CHECK(name == name_of(value.name));
    const uint64_t size = value.name.size;
    waiting += value.waiting.size();
    if (in_memory(value.state)) {
      memory += size;
      in_lru++;
      MOBULA_CHECK(lru_.at(value.order) == name && places_.at(name_of(value.place)) == name);
    } else {
      MOBULA_CHECK(value.order == 0 && !value.evicting);
    }
    if (value.state == State::kBoth) clean += size;
    if (value.state == State::kWriting) writing += size;
    if (value.state == State::kDisk) on_disk++;
    if (value.state == State::kFile) {
      in_files++;
      in_file_bytes += size;
      MOBULA_CHECK(books_.is_in_file(value.place.segment));
    }
    if (value.state == State::kReading) reading++;
    const bool has_copy = value.state == State::kBoth || value.state == State::kDisk ||
                          value.state == State::kReading;
    if (has_copy) {
      copies++;
      copy_bytes += size;
    }
    // Who waits is told, or stands in the queue, or is told when something arrives.
    MOBULA_CHECK(value.waiting.empty() || value.evicting || value.state == State::kReading ||
                 (value.state == State::kDisk && value.queued));
    MOBULA_CHECK(!value.freed || value.evicting || value.state == State::kWriting ||
                 value.state == State::kReading);
  }
  MOBULA_CHECK(memory == memory_bytes_ && clean == clean_bytes_ && writing == writing_bytes_);
  MOBULA_CHECK(in_lru == lru_.size() && in_lru == places_.size());
  MOBULA_CHECK(copies == files_.parts() && copy_bytes == files_.bytes());
  MOBULA_CHECK(on_disk == totals_.disk_values && reading == reads_);
  MOBULA_CHECK(in_files == totals_.in_file_values && in_file_bytes == totals_.in_file_bytes);
  MOBULA_CHECK(waiting == restores_waiting_);
  uint64_t batched = 0;
  for (const auto& [file, batch] : writes_) batched += batch.bytes;
  MOBULA_CHECK(batched == writing_bytes_);
  slabs_.check_invariants();
  file_slabs_.check_invariants();
}

}  // namespace mobula::store
