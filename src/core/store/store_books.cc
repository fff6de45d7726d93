#include "core/store/store_books.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "shm/segment.h"

namespace mobula::store {

namespace {

constexpr uint64_t kUnknown = ~uint64_t{0};
// A grant leaves room for at least this many of its size, so that the last ones are small.
constexpr uint64_t kGrantShare = 8;

constexpr uint64_t round_up(uint64_t bytes, uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

uint64_t file_bytes_for(uint64_t data_bytes) {
  return shm::segment_file_bytes(data_bytes, shm::segment_entries_for(data_bytes));
}

std::string human(uint64_t bytes) {
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? fmt::format("{:.1f} MiB", mebibytes)
                          : fmt::format("{:.2f} GiB", mebibytes / 1024);
}

}  // namespace

StoreBooks::StoreBooks(Options options) : options_(options) {}

Result<void> StoreBooks::request(const SegmentRequest& request, const Headroom& headroom,
                                 Instant now, Effects& effects) {
  if (request.bytes == 0) {
    return fail(ErrorCode::kInvalidArgument, "a segment of no bytes");
  }
  if (fits_no_store(request.bytes) && !request.ahead) {
    if (!try_grant_in_file(request, headroom, effects)) {
      refuse_too_large(request, headroom, effects);
    }
    return {};
  }
  if (request.ahead) {
    if (fits_no_store(request.bytes) || !may_grant_ahead(request.bytes, headroom) ||
        !try_grant(request, headroom, effects)) {
      effects.emplace_back(RefuseSegment{.process = request.process,
                                         .request = request.number,
                                         .message = "not ahead of its use",
                                         .ahead = true});
    }
    return {};
  }
  const bool may_pass = waiting_.empty() || now - waiting_.front().since < options_.pass_max;
  if (may_pass && try_grant(request, headroom, effects)) return {};
  if (waiting_.size() >= options_.waiting_max) {
    effects.emplace_back(RefuseSegment{request.process, request.number,
                                       "too many requests wait for room in the object store"});
    return {};
  }
  const Duration patience = stuck_ ? options_.file_after_file : options_.file_after;
  waiting_.push_back({request, now, now + options_.wait_max, now, now + patience});
  ask_for_empty(effects);
  return {};
}

bool StoreBooks::fits_no_store(uint64_t bytes) const {
  return bytes > options_.capacity_bytes ||
         file_bytes_for(round_up(bytes, shm::kSegmentUnitBytes)) > options_.capacity_bytes;
}

void StoreBooks::refuse_too_large(const SegmentRequest& request, const Headroom& headroom,
                                  Effects& effects) {
  std::string why = fmt::format("{} do not fit into an object store of {} (object_store_memory)",
                                human(request.bytes), human(options_.capacity_bytes));
  if (headroom.files) why += fmt::format(", nor into a file: {}", headroom.files->text);
  effects.emplace_back(RefuseSegment{.process = request.process,
                                     .request = request.number,
                                     .message = std::move(why),
                                     .disk_full = headroom.files.has_value()});
}

void StoreBooks::tick(const Headroom& headroom, Instant now, Effects& effects) {
  if (waiting_.empty()) return;
  // A small one may pass a large one for a while: it does not wait for room that is there.
  bool closed = false;
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    if (!closed && try_grant(waiting.request, headroom, effects)) return true;
    closed = closed || now - waiting.since >= options_.pass_max;
    if (now >= std::min(waiting.file_at, waiting.deadline) &&
        try_grant_in_file(waiting.request, headroom, effects)) {
      stuck_ = true;
      return true;
    }
    if (now < waiting.deadline) return false;
    effects.emplace_back(RefuseSegment{.process = waiting.request.process,
                                       .request = waiting.request.number,
                                       .message = refusal(waiting.request.bytes, headroom),
                                       .disk_full = headroom.files.has_value()});
    return true;
  });
  if (!waiting_.empty()) ask_for_empty(effects);
}

void StoreBooks::cancel(ProcessId process, uint64_t number) {
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    return waiting.request.process == process && waiting.request.number == number;
  });
}

std::vector<SegmentRequest> StoreBooks::waiting_requests() const {
  std::vector<SegmentRequest> requests;
  for (const Waiting& waiting : waiting_) requests.push_back(waiting.request);
  return requests;
}

Duration StoreBooks::waited(Instant now) const {
  Duration longest{0};
  for (const Waiting& waiting : waiting_) {
    longest = std::max(longest, now - (waiting.deadline - options_.wait_max));
  }
  return longest;
}

void StoreBooks::on_progress(Instant now) {
  stuck_ = false;
  for (Waiting& waiting : waiting_) {
    waiting.progress = now;
    waiting.deadline = std::max(waiting.deadline, now + options_.wait_max);
    waiting.file_at = std::max(waiting.file_at, now + options_.file_after);
  }
}

void StoreBooks::on_work(Instant now) {
  on_moving(now);
  for (Waiting& waiting : waiting_) {
    waiting.deadline = std::max(waiting.deadline, now + options_.wait_max);
  }
}

void StoreBooks::on_moving(Instant now) {
  for (Waiting& waiting : waiting_) {
    waiting.file_at =
        std::max(waiting.file_at,
                 std::min(now + options_.file_after, waiting.progress + options_.file_after_work));
  }
}

bool StoreBooks::go_to_file(ProcessId process, const Headroom& headroom, Effects& effects) {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& waiting) {
    return waiting.request.process == process;
  });
  if (found == waiting_.end() || !try_grant_in_file(found->request, headroom, effects))
    return false;
  waiting_.erase(found);
  return true;
}

bool StoreBooks::may_grant_ahead(uint64_t bytes, const Headroom& headroom) const {
  const uint64_t file_bytes = file_bytes_for(round_up(bytes, shm::kSegmentUnitBytes));
  return waiting_.empty() && granted_bytes_ + file_bytes <= options_.capacity_bytes / 2 &&
         left_to_give(headroom) / 2 >= file_bytes;
}

bool StoreBooks::try_grant(const SegmentRequest& wanted, const Headroom& headroom,
                           Effects& effects) {
  const uint64_t left = left_to_give(headroom);
  const uint64_t least = round_up(wanted.bytes, shm::kSegmentUnitBytes);
  if (file_bytes_for(least) > left || segments_.size() >= options_.segments_max) return false;
  // A standard segment, unless one object is most of one; smaller ones when little is left.
  uint64_t data_bytes = least;
  if (wanted.bytes <= options_.standard_bytes / 2) {
    const uint64_t share = left / kGrantShare / shm::kSegmentUnitBytes * shm::kSegmentUnitBytes;
    data_bytes = std::max(least, std::min(options_.standard_bytes, share));
  }
  grant(wanted, data_bytes, false, effects);
  return true;
}

// All of its blocks are taken at once: it is no larger than it must be, if it is for one value.
bool StoreBooks::try_grant_in_file(const SegmentRequest& wanted, const Headroom& headroom,
                                   Effects& effects) {
  if (!headroom.files || in_file_count_ >= options_.files_max ||
      segments_.size() >= options_.segments_max) {
    return false;
  }
  const uint64_t bound =
      options_.files_bytes_max - std::min(options_.files_bytes_max, in_file_bytes_);
  const uint64_t left = std::min(headroom.files->bytes_left, bound);
  if (wanted.bytes > left) return false;
  const uint64_t least = round_up(wanted.bytes, shm::kSegmentUnitBytes);
  if (file_bytes_for(least) > left) return false;
  const bool for_one = wanted.bytes > options_.standard_bytes / 2;
  const uint64_t standard = std::max(least, options_.file_standard_bytes);
  const bool spacious = !for_one && file_bytes_for(standard) <= left / kGrantShare;
  grant(wanted, spacious ? standard : least, true, effects);
  return true;
}

void StoreBooks::grant(const SegmentRequest& wanted, uint64_t data_bytes, bool in_file,
                       Effects& effects) {
  const SegmentId id{next_segment_++};
  Segment& segment = segments_[id];
  segment.writer = wanted.process;
  segment.is_daemons = wanted.process == kDaemonProcess;
  segment.in_file = in_file;
  segment.data_bytes = data_bytes;
  segment.entry_count = shm::segment_entries_for(data_bytes);
  segment.file_bytes = file_bytes_for(data_bytes);
  (in_file ? in_file_bytes_ : granted_bytes_) += segment.file_bytes;
  if (in_file) in_file_count_++;
  effects.emplace_back(CreateSegment{wanted.process, wanted.number, id, data_bytes, in_file});
}

void StoreBooks::on_create_failed(const CreateSegment& created, const Error& why,
                                  Effects& effects) {
  const auto segment = segments_.find(created.segment);
  MOBULA_CHECK(segment != segments_.end());
  forget(segment);
  effects.emplace_back(RefuseSegment{.process = created.process,
                                     .request = created.request,
                                     .message = why.message,
                                     .disk_full = why.code == ErrorCode::kDiskFull});
}

void StoreBooks::forget(Segments::iterator segment) {
  const bool in_file = segment->second.in_file;
  (in_file ? in_file_bytes_ : granted_bytes_) -= segment->second.file_bytes;
  if (in_file) in_file_count_--;
  segments_.erase(segment);
}

bool StoreBooks::is_in_file(SegmentId id) const {
  const auto segment = segments_.find(id);
  return segment != segments_.end() && segment->second.in_file;
}

uint64_t StoreBooks::left_to_give(const Headroom& headroom) const {
  const uint64_t in_store =
      options_.capacity_bytes - std::min(options_.capacity_bytes, granted_bytes_);
  const uint64_t machine = std::min(headroom.memory_available, headroom.cgroup_available);
  if (machine == kUnknown) return in_store;
  // Pages that were granted but never touched will be taken out of the same memory.
  const uint64_t resident = std::min(headroom.store_resident, granted_bytes_);
  const uint64_t spoken_for = options_.reserve_bytes + (granted_bytes_ - resident);
  return std::min(in_store, machine - std::min(machine, spoken_for));
}

std::string StoreBooks::refusal(uint64_t bytes, const Headroom& headroom) const {
  const std::string nor = headroom.files ? "; nor in a file: " + headroom.files->text : "";
  const uint64_t in_store =
      options_.capacity_bytes - std::min(options_.capacity_bytes, granted_bytes_);
  if (left_to_give(headroom) < in_store) {
    return fmt::format(
        "no memory for {} more: the machine has {} available, the cgroup {}; {}", human(bytes),
        headroom.memory_available == kUnknown ? "?" : human(headroom.memory_available),
        headroom.cgroup_available == kUnknown ? "?" : human(headroom.cgroup_available),
        who_has_what() + nor);
  }
  return fmt::format("no room for {} more: {}", human(bytes), who_has_what() + nor);
}

std::string StoreBooks::who_has_what() const {
  std::map<ProcessId, uint64_t> by_writer;
  uint64_t restored = 0;
  for (const auto& [id, segment] : segments_) {
    if (segment.in_file) continue;
    (segment.is_daemons ? restored : by_writer[segment.writer]) += segment.file_bytes;
  }
  std::vector<std::pair<uint64_t, ProcessId>> largest;
  for (const auto& [process, bytes] : by_writer) largest.emplace_back(bytes, process);
  std::sort(largest.rbegin(), largest.rend());
  constexpr size_t kNamed = 5;
  if (largest.size() > kNamed) largest.resize(kNamed);
  std::string text =
      fmt::format("{} of {} granted", human(granted_bytes_), human(options_.capacity_bytes));
  for (const auto& [bytes, process] : largest) {
    text += process == kDaemonProcess
                ? fmt::format(", shared objects of ended processes {}", human(bytes))
                : fmt::format(", process {} {}", number(process), human(bytes));
  }
  if (restored > 0) text += fmt::format(", values read back from disk {}", human(restored));
  if (in_file_bytes_ > 0) text += fmt::format("; {} more in files", human(in_file_bytes_));
  return text;
}

void StoreBooks::ask_for_empty(Effects& effects) const {
  std::set<ProcessId> writers;
  for (const auto& [id, segment] : segments_) {
    if (segment.writer != kDaemonProcess && !segment.in_file) writers.insert(segment.writer);
  }
  for (const ProcessId writer : writers) effects.emplace_back(AskForEmpty{writer});
}

Result<void> StoreBooks::return_segment(ProcessId process, SegmentId id, Effects& effects) {
  const auto segment = segments_.find(id);
  if (segment == segments_.end() || segment->second.writer != process ||
      !segment->second.adopted.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                "segment " + std::to_string(number(id)) + " is not the sender's to return");
  }
  destroy(segment, effects);
  return {};
}

Result<uint64_t> StoreBooks::open(ProcessId process, SegmentId id) {
  const auto segment = segments_.find(id);
  if (segment == segments_.end()) {
    return fail(ErrorCode::kNotFound, "no segment " + std::to_string(number(id)));
  }
  segment->second.readers.insert(process);
  return segment->second.data_bytes;
}

Result<void> StoreBooks::check_location(const wire::StoreLocation& location) const {
  const auto found = segments_.find(location.segment);
  if (found != segments_.end()) {
    const Segment& segment = found->second;
    // What is read back lies there, but is named after its first place.
    if (segment.is_daemons) return fail(ErrorCode::kInvalidArgument, "a place of the daemon's own");
    const uint64_t start = shm::segment_data_offset(segment.entry_count);
    const uint64_t end = start + segment.data_bytes;
    if (location.entry < segment.entry_count && location.size > 0 && location.offset >= start &&
        location.offset < end && location.size <= end - location.offset &&
        location.offset % shm::kExtentAlignmentBytes == 0) {
      return {};
    }
  }
  return fail(ErrorCode::kInvalidArgument, "a location outside of the object store");
}

void StoreBooks::adopt(const wire::StoreLocation& location) {
  const auto segment = segments_.find(location.segment);
  if (segment == segments_.end()) return;  // Named by mistake, after its writer gave it back.
  if (segment->second.adopted.try_emplace({location.entry, location.generation}, location.size)
          .second) {
    segment->second.adopted_bytes += location.size;
    adopted_count_++;
  }
}

void StoreBooks::free_extent(const wire::StoreLocation& location, Effects& effects) {
  const auto segment = segments_.find(location.segment);
  if (segment == segments_.end() ||
      !segment->second.adopted.contains({location.entry, location.generation})) {
    return;
  }
  evicting_.push_back(location);
  effects.emplace_back(MarkEvicting{location});
}

void StoreBooks::on_unpinned(const wire::StoreLocation& location, Effects& effects) {
  const auto found = std::find_if(evicting_.begin(), evicting_.end(), [&](const auto& other) {
    return other.segment == location.segment && other.entry == location.entry &&
           other.generation == location.generation;
  });
  MOBULA_CHECK(found != evicting_.end());
  const wire::StoreLocation freed = *found;
  evicting_.erase(found);
  release(freed, effects);
}

void StoreBooks::drop_extent(const wire::StoreLocation& location, Effects& effects) {
  release(location, effects);
}

void StoreBooks::release(const wire::StoreLocation& location, Effects& effects) {
  const auto found = segments_.find(location.segment);
  MOBULA_CHECK(found != segments_.end());
  Segment& segment = found->second;
  const auto adopted = segment.adopted.find({location.entry, location.generation});
  MOBULA_CHECK(adopted != segment.adopted.end());
  segment.adopted_bytes -= adopted->second;
  segment.adopted.erase(adopted);
  adopted_count_--;
  effects.emplace_back(ReleaseExtent{location, segment.writer});
  const bool is_orphan = segment.writer == kDaemonProcess && !segment.is_daemons;
  if (is_orphan && segment.adopted.empty()) destroy(found, effects);
}

ProcessId StoreBooks::writer_of(SegmentId id) const {
  const auto segment = segments_.find(id);
  return segment == segments_.end() ? kDaemonProcess : segment->second.writer;
}

std::map<ProcessId, uint64_t> StoreBooks::unshared_bytes() const {
  std::map<ProcessId, uint64_t> unshared;
  for (const auto& [id, segment] : segments_) {
    if (segment.writer == kDaemonProcess || segment.in_file) continue;
    unshared[segment.writer] +=
        segment.data_bytes - std::min(segment.data_bytes, segment.adopted_bytes);
  }
  return unshared;
}

uint64_t StoreBooks::taken_bytes(const std::function<uint64_t(ProcessId)>& used_by) const {
  std::map<ProcessId, uint64_t> granted;
  uint64_t taken = 0;
  for (const auto& [id, segment] : segments_) {
    if (segment.in_file) continue;
    if (segment.writer == kDaemonProcess) {
      taken += segment.adopted_bytes;
    } else {
      granted[segment.writer] += segment.data_bytes;
    }
  }
  for (const auto& [process, bytes] : granted) taken += std::min(used_by(process), bytes);
  return taken;
}

std::vector<SegmentId> StoreBooks::segments_in_files(size_t max) const {
  std::vector<SegmentId> ids;
  for (const auto& [id, segment] : segments_) {
    if (segment.in_file && ids.size() < max) ids.push_back(id);
  }
  return ids;
}

void StoreBooks::on_process_buried(ProcessId process, Effects& effects) {
  std::erase_if(waiting_, [&](const Waiting& w) { return w.request.process == process; });
  for (auto it = segments_.begin(); it != segments_.end();) {
    const auto next = std::next(it);
    Segment& segment = it->second;
    segment.readers.erase(process);
    if (segment.writer == process) {
      segment.writer = kDaemonProcess;
      if (segment.adopted.empty()) destroy(it, effects);
    }
    it = next;
  }
}

void StoreBooks::destroy(Segments::iterator segment, Effects& effects) {
  const std::set<ProcessId>& readers = segment->second.readers;
  effects.emplace_back(DestroySegment{segment->first, {readers.begin(), readers.end()}});
  if (!segment->second.in_file) stuck_ = false;
  forget(segment);
}

void StoreBooks::check_invariants() const {
  uint64_t granted = 0;
  uint64_t in_files = 0;
  uint32_t files = 0;
  size_t adopted = 0;
  for (const auto& [id, segment] : segments_) {
    MOBULA_CHECK(number(id) < next_segment_);
    MOBULA_CHECK(segment.writer != kDaemonProcess || segment.is_daemons ||
                 !segment.adopted.empty());
    uint64_t adopted_bytes = 0;
    for (const auto& [key, size] : segment.adopted) adopted_bytes += size;
    MOBULA_CHECK(adopted_bytes == segment.adopted_bytes);
    (segment.in_file ? in_files : granted) += segment.file_bytes;
    files += segment.in_file ? 1 : 0;
    adopted += segment.adopted.size();
  }
  MOBULA_CHECK(granted == granted_bytes_ && adopted == adopted_count_);
  MOBULA_CHECK(in_files == in_file_bytes_ && files == in_file_count_);
  MOBULA_CHECK(in_file_bytes_ <= options_.files_bytes_max && files <= options_.files_max);
  MOBULA_CHECK(granted_bytes_ <= options_.capacity_bytes);
  for (const wire::StoreLocation& location : evicting_) {
    MOBULA_CHECK(
        segments_.at(location.segment).adopted.contains({location.entry, location.generation}));
  }
  MOBULA_CHECK(waiting_.size() <= options_.waiting_max);
}

}  // namespace mobula::store
