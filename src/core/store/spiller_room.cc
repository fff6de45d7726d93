// Spiller: making room. Which values are written, and which leave memory.

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "core/store/spiller.h"

namespace mobula::store {

namespace {

// Values looked at in one step, so that the loop gets its turn. The rest has its own.
constexpr size_t kLooksMax = 4096;
// A process is not asked to share for less than this. Bytes.
constexpr uint64_t kUnsharedMin = 1ULL << 20;

}  // namespace

// One walk through values, least recently used first.
struct Spiller::Choice {
  Instant now;
  const IsPinned& is_pinned;
  bool may_write;
  uint64_t bytes_left;  // To be found yet.
  std::vector<ValueName> to_write;
  std::set<ValueName> chosen;     // The same.
  std::vector<ValueName> pinned;  // They are in use, therefore recently used.
  std::unordered_set<uint32_t> segments;
};

bool Spiller::busy() const {
  const auto is_empty = [](const SlabAllocator& slabs) {
    return slabs.segment_count() > 0 && slabs.bytes_in_use() == 0;
  };
  const bool has_empty = is_empty(slabs_) || is_empty(file_slabs_);
  return books_.waiting() > 0 || !restores_.empty() || has_empty;
}

void Spiller::step(Instant now, const Outside& outside, Effects& effects, SpillEffects& spill) {
  start_reads(now, outside, effects, spill);
  if (options_.enabled) {
    if (books_.waiting() > 0) {
      make_room(now, outside, effects, spill);
    } else {
      forget_served({});
    }
    write_ahead(now, outside, effects, spill);
  }
  return_own_segments(now, effects);
}

bool Spiller::may_write(Instant now) const {
  return writes_.size() < options_.writes_max && now >= write_at_;
}

// Somebody waits. What is least recently used leaves memory, or is written first.
void Spiller::make_room(Instant now, const Outside& outside, Effects& effects,
                        SpillEffects& spill) {
  const std::vector<SegmentRequest> waiting = books_.waiting_requests();
  uint64_t wanted = 0;
  for (const SegmentRequest& request : waiting) {
    wanted = std::min(wanted + request.bytes, books_.capacity_bytes());
  }
  forget_served(waiting);
  if (now >= settle_at_) evicted_bytes_ = 0;
  if (evicted_bytes_ >= wanted) return;  // It is on its way to them.
  Choice choice{now, outside.is_pinned, now >= write_at_, wanted - evicted_bytes_, {}, {}, {}, {}};
  size_t looks = 0;
  for (auto it = lru_.begin(); it != lru_.end() && choice.bytes_left > 0; ++it) {
    if (++looks > kLooksMax) break;
    Value& value = values_.at(it->second);
    const SegmentId segment = value.place.segment;
    const uint64_t before = choice.bytes_left;
    consider(value, choice, spill);
    if (choice.bytes_left < before && !serves_directly(segment, waiting)) {
      consider_segment(segment, choice, spill);
    }
  }
  for (const ValueName& name : choice.pinned) touch(values_.at(name));
  if (evicted_bytes_ > 0 && now >= settle_at_) settle_at_ = now + options_.settle;
  const bool known_is_not_enough = choice.bytes_left > 0;
  if (!choice.to_write.empty() && may_write(now)) {
    fill_batch(choice, options_.batch_bytes);
    write(choice.to_write, outside, now, spill);
  }
  const uint64_t unwritten = memory_bytes_ - clean_bytes_ - writing_bytes_;
  // As much as is on its way to the disk at once, so that more is known when that is done.
  const uint64_t ahead = options_.writes_max * options_.batch_bytes;
  if (now >= write_at_ && (known_is_not_enough || unwritten < ahead)) {
    ask_to_share(std::max(choice.bytes_left, 2 * ahead), now, effects);
  }
}

// What was evicted for those who do not wait any more was taken by them.
void Spiller::forget_served(std::span<const SegmentRequest> waiting) {
  std::map<std::pair<ProcessId, uint64_t>, uint64_t> bytes;
  for (const SegmentRequest& request : waiting) {
    bytes[{request.process, request.number}] = request.bytes;
  }
  for (const auto& [request, size] : served_) {
    if (!bytes.contains(request)) evicted_bytes_ -= std::min(evicted_bytes_, size);
  }
  served_ = std::move(bytes);
}

// A value that could make room: on its way already, evicted at once, or to be written.
void Spiller::consider(Value& value, Choice& choice, SpillEffects& spill) {
  if (value.evicting || value.freed) return;
  const uint64_t size = value.name.size;
  const auto found = [&] { choice.bytes_left -= std::min(choice.bytes_left, size); };
  if (value.state == State::kWriting) return found();
  if (choice.now < value.protected_until) return;
  if (value.state == State::kMemory && !choice.may_write) return;
  if (choice.is_pinned(value.place)) {
    choice.pinned.push_back(name_of(value.name));
    return;
  }
  if (value.state == State::kBoth) {
    value.evicting = true;
    evicted_bytes_ += size;
    spill.emplace_back(TryEvict{name_of(value.name), value.place});
    return found();
  }
  if (choice.to_write.size() >= options_.batch_count_max) return;
  if (!choice.chosen.insert(name_of(value.name)).second) return;
  choice.to_write.push_back(name_of(value.name));
  found();
}

// The whole segment, so that its memory can go to somebody else.
void Spiller::consider_segment(SegmentId segment, Choice& choice, SpillEffects& spill) {
  if (!choice.segments.insert(number(segment)).second) return;
  std::vector<ValueName> inside;
  for (auto place = places_.lower_bound({segment, 0, 0});
       place != places_.end() && place->first.segment == segment; ++place) {
    inside.push_back(place->second);
  }
  for (const ValueName& name : inside) consider(values_.at(name), choice, spill);
}

// Can somebody who waits use free space of this segment without getting the whole of it?
bool Spiller::serves_directly(SegmentId segment, std::span<const SegmentRequest> waiting) const {
  const ProcessId writer = books_.writer_of(segment);
  if (writer == kDaemonProcess && !slabs_.owns(segment)) return false;
  return std::any_of(waiting.begin(), waiting.end(), [&](const SegmentRequest& request) {
    return request.process == writer && !slabs_.wants_own_segment(request.bytes);
  });
}

// Writes more than is needed just now: a larger file takes hardly longer.
void Spiller::fill_batch(Choice& choice, uint64_t bytes) {
  uint64_t chosen = 0;
  for (const ValueName& name : choice.to_write) chosen += values_.at(name).name.size;
  size_t looks = 0;
  for (const auto& [order, name] : lru_) {
    if (chosen >= bytes || choice.to_write.size() >= options_.batch_count_max) break;
    if (++looks > kLooksMax) break;
    const Value& value = values_.at(name);
    const bool fits = value.state == State::kMemory && !value.freed &&
                      choice.now >= value.protected_until && chosen + value.name.size <= bytes;
    if (!fits || choice.chosen.contains(name) || choice.is_pinned(value.place)) continue;
    choice.chosen.insert(name);
    choice.to_write.push_back(name);
    chosen += value.name.size;
  }
}

// Nobody waits yet. Copies on disk let memory be had at once later.
void Spiller::write_ahead(Instant now, const Outside& outside, Effects& effects,
                          SpillEffects& spill) {
  const uint64_t capacity = books_.capacity_bytes();
  const uint64_t unused = capacity - std::min(capacity, books_.granted_bytes());
  const auto goal = static_cast<uint64_t>(static_cast<double>(capacity) * (1 - options_.threshold));
  const uint64_t have = unused + clean_bytes_ + writing_bytes_;
  if (have >= goal || !may_write(now)) return;
  Choice choice{now, outside.is_pinned, true, 0, {}, {}, {}, {}};
  fill_batch(choice, std::min(goal - have, options_.batch_bytes));
  if (choice.to_write.empty() && memory_bytes_ > clean_bytes_ + writing_bytes_) {
    // Each is larger than what is missing: the oldest of them.
    for (const auto& [order, name] : lru_) {
      const Value& value = values_.at(name);
      if (value.state != State::kMemory || value.freed || now < value.protected_until) continue;
      if (outside.is_pinned(value.place)) continue;
      choice.to_write.push_back(name);
      break;
    }
  }
  if (!choice.to_write.empty()) return write(choice.to_write, outside, now, spill);
  if (std::exchange(granted_when_asked_, books_.granted_bytes()) != books_.granted_bytes()) {
    ask_to_share(goal - have, now, effects);
  }
}

void Spiller::write(const std::vector<ValueName>& chosen, const Outside& outside, Instant now,
                    SpillEffects& spill) {
  const DiskRoom disk = outside.disk();
  WriteOut out{SpillFileId{next_file_}, {}};
  Batch batch;
  const uint64_t room = disk.bytes_left - std::min(disk.bytes_left, writing_bytes_);
  for (const ValueName& name : chosen) {
    Value& value = values_.at(name);
    const bool first = batch.values.empty();
    if (batch.bytes + value.name.size > room) continue;
    if (!first && batch.bytes + value.name.size > options_.batch_bytes) continue;
    set_state(value, State::kWriting, now);
    batch.values.push_back(name);
    batch.bytes += value.name.size;
    out.from.push_back(value.place);
  }
  if (batch.values.empty()) {
    disk_full_ = true;
    trouble_ = "the disk is too full to spill to: " + disk.text;
    write_at_ = now + options_.write_again;
    return;
  }
  next_file_++;
  writes_[out.file] = std::move(batch);
  spill.emplace_back(std::move(out));
}

void Spiller::ask_to_share(uint64_t bytes, Instant now, Effects& effects) {
  if (now < ask_at_) return;
  ask_at_ = now + options_.ask_again;
  for (const auto& [process, unshared] : books_.unshared_bytes()) {
    if (unshared >= kUnsharedMin) effects.emplace_back(AskForEmpty{process, bytes});
  }
}

void Spiller::return_own_segments(Instant now, Effects& effects) {
  const Duration keep = books_.waiting() > 0 ? Duration(0) : options_.keep_empty;
  for (const SegmentId segment : slabs_.take_empty(now - keep)) {
    MOBULA_CHECK(books_.return_segment(kDaemonProcess, segment, effects).has_value());
  }
  // A file is made for what goes into it. One that was granted a moment ago waits for its first value.
  if (!restores_.empty() || reads_ > 0) return;
  for (const SegmentId segment : file_slabs_.take_empty(now)) {
    MOBULA_CHECK(books_.return_segment(kDaemonProcess, segment, effects).has_value());
  }
}

}  // namespace mobula::store
