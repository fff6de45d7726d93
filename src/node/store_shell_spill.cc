// StoreShell: values that go to disk and come back.

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "core/store/lookers.h"
#include "node/log.h"
#include "node/store_shell.h"
#include "shm/stored_bytes.h"

namespace mobula::node {

namespace {

// Processes named in an error text.
constexpr size_t kNamedMax = 5;
// Users are told of a wait for tasks that work after so long, and again.
constexpr auto kTellAfter = std::chrono::seconds(10);
constexpr auto kTellAgain = std::chrono::minutes(1);

std::string human(uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

}  // namespace

shm::PinScan StoreShell::scan_pins() const {
  shm::PinScan scan;
  for (const auto& [id, session] : sessions_.all()) {
    if (session->uplink) scan.add(session->pins());  // The pins of the dead do not count.
  }
  return scan;
}

uint64_t StoreShell::pinned_bytes() const {
  const shm::PinScan scan = scan_pins();
  uint64_t bytes = 0;
  for (const wire::StoreLocation& place : spiller_.places()) {
    if (scan.pinned(place)) bytes += place.size;
  }
  return bytes;
}

uint64_t StoreShell::taken_bytes() const {
  return books_.taken_bytes([this](ProcessId process) -> uint64_t {
    const Session* session = sessions_.find(process);
    if (session == nullptr || !session->home.valid()) return 0;
    return shm::stored_bytes(session->home.data()).load(std::memory_order_relaxed);
  });
}

// Whether who waits for room has a reason to go on waiting, or one has to let go of what it looks at.
void StoreShell::look_at_lookers() {
  std::vector<ProcessId> waiting = spiller_.waiting_for_room();
  const std::vector<ProcessId> for_values = waiting;
  for (const store::SegmentRequest& request : books_.waiting_requests()) {
    waiting.push_back(request.process);
  }
  std::vector<store::Looker> lookers;
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->uplink) continue;
    shm::PinScan scan;
    scan.add(session->pins());
    if (scan.size() == 0) continue;
    const shm::HomeHeader& home = shm::home_header(session->home.data());
    const auto running = home.running.load();
    const bool executes = !session->is_driver && running && running->task != 0;
    lookers.push_back({.process = id,
                       .executes_task = executes && running->is_call == 0,
                       .executes_call = executes && running->is_call != 0,
                       .waits_in_get = home.waits_in.load() != shm::WaitsIn::kNothing,
                       .waits_for_room = std::ranges::find(waiting, id) != waiting.end()});
  }
  const store::LookersVerdict verdict = store::judge_lookers(lookers, for_values);
  const bool is_moving = spiller_.is_moving() || files_in_making_ > 0;
  const bool refuses = verdict.to_refuse && !is_moving && !let_go_to_file(kDaemonProcess);
  const Instant now = monotonic_now();
  if (is_moving) books_.on_moving(now);
  if (verdict.some_work) books_.on_work(now);
  if (refuses) books_.on_progress(now);
  if (verdict.some_work) tell_of_long_wait(waiting, now);
  if (!refuses) return;
  store::SpillEffects spill;
  const std::string why =
      "no room to read a value back: all tasks that look at values wait for room themselves" +
      explain();
  spiller_.refuse_restores(*verdict.to_refuse, why, spill);
  carry_out(spill);
}

bool StoreShell::let_go_to_file(ProcessId process) {
  store::Effects effects;
  const bool granted = books_.go_to_file(process, measure(), effects);
  carry_out(effects);
  return granted;
}

void StoreShell::tell_of_long_wait(const std::vector<ProcessId>& waiting, Instant now) {
  if (!tell_at_) tell_at_ = now + kTellAfter;
  if (now < *tell_at_) return;
  tell_at_ = now + kTellAgain;
  const std::string text =
      "the object store is full, and put or get waits for tasks that work with "
      "what takes it: " +
      books_.who_has_what() + explain();
  log_warning("event=waiting_for_room why=\"" + text + '"');
  if (on_long_wait_) on_long_wait_(waiting, text);
}

Result<void> StoreShell::look_up(const Session& session, const wire::fb::StoredLookup& record) {
  store::SpillEffects spill;
  Result<void> result;
  for (const wire::StoreLocation& value : wire::read_locations(record.values())) {
    if (is_damaged(value)) {
      spill.emplace_back(store::TellNoPlace{session.id, value, store::RestoreProblem::kLost,
                                            "its place in memory was overwritten"});
      continue;
    }
    result = spiller_.restore(session.id, value, monotonic_now(), spill);
    if (!result) break;
  }
  carry_out(spill);
  return result;
}

bool StoreShell::has_bytes(const wire::StoreLocation& location) const {
  const auto seen = spiller_.look(location);
  return seen && seen->where != store::Spiller::Seen::Where::kLost && !is_damaged(location);
}

// It should be in memory, and the segment's index, which its writer can write, says that it is not.
bool StoreShell::is_damaged(const wire::StoreLocation& value) const {
  const auto seen = spiller_.look(value);
  using Where = store::Spiller::Seen::Where;
  if (!seen || !seen->place || (seen->where != Where::kMemory && seen->where != Where::kFile)) {
    return false;
  }
  const wire::StoreLocation& place = *seen->place;
  const bool evicting = std::ranges::any_of(evicting_, [&](const store::TryEvict& evict) {
    return evict.location.segment == place.segment && evict.location.entry == place.entry;
  });
  const auto found = segments_.find(place.segment);
  return !evicting && (found == segments_.end() || !found->second.view.is_sealed(place));
}

void StoreShell::step() {
  changed_ = false;
  std::unique_ptr<shm::PinScan> scan;
  const store::Spiller::Outside outside{
      .headroom = [this] { return measure(); },
      .disk = [this] { return disk_ ? disk_->room() : store::DiskRoom{}; },
      .is_pinned =
          [&](const wire::StoreLocation& place) {
            if (!scan) scan = std::make_unique<shm::PinScan>(scan_pins());
            return scan->pinned(place);
          }};
  store::Effects effects;
  store::SpillEffects spill;
  const std::string trouble = spiller_.trouble();
  spiller_.step(monotonic_now(), outside, effects, spill);
  if (spiller_.trouble() != trouble && !spiller_.trouble().empty()) {
    log_warning(fmt::format("event=cannot_spill why=\"{}\"", spiller_.trouble()));
  }
  carry_out(effects);
  carry_out(spill);
  finish_evictions();
}

// All were marked before the pins are looked at (shm/pins.h).
void StoreShell::finish_evictions() {
  if (evicting_.empty()) return;
  const shm::PinScan scan = scan_pins();
  store::Effects effects;
  store::SpillEffects spill;
  const Instant now = monotonic_now();
  for (const store::TryEvict& evict : std::exchange(evicting_, {})) {
    if (scan.pinned(evict.location)) {
      segments_.at(evict.location.segment).view.keep(evict.location);
      spiller_.on_kept(evict.value, now, effects, spill);
    } else {
      spiller_.on_evicted(evict.value, now, effects, spill);
    }
  }
  carry_out(effects);
  carry_out(spill);
  changed_ = true;  // There is room now for what waits to be read back.
}

void StoreShell::own_segment_created(SegmentId segment, const shm::SegmentView& view) {
  spiller_.on_own_segment(segment,
                          {.data_offset = view.data_offset(),
                           .data_bytes = view.data_bytes(),
                           .entry_count = view.entry_count()},
                          monotonic_now());
  changed_ = true;
}

void StoreShell::carry_out(const store::SpillEffects& effects) {
  for (const store::SpillEffect& effect : effects) {
    std::visit([this](const auto& decided) { carry_out(decided); }, effect);
  }
}

void StoreShell::carry_out(const store::WriteOut& write) {
  std::vector<SpillPart> parts;
  for (const wire::StoreLocation& from : write.from) {
    parts.push_back({segments_.at(from.segment).fd, from.offset, from.size});
  }
  disk_->write(write.file, std::move(parts),
               [this, file = write.file](const store::WriteOutcome& outcome) {
                 if (outcome.kind != store::WriteOutcome::Kind::kDone) {
                   log_warning(fmt::format("event=cannot_spill why=\"{}\"", outcome.why));
                 }
                 store::Effects effects;
                 store::SpillEffects spill;
                 spiller_.on_written(file, outcome, monotonic_now(), effects, spill);
                 changed_ = true;
                 carry_out(effects);
                 carry_out(spill);
               });
}

void StoreShell::carry_out(const store::ReadIn& read) {
  Segment& segment = segments_.at(read.segment);
  const wire::StoreLocation place =
      segment.view.begin_write(read.entry, read.offset, read.from.size, kDaemonProcess);
  disk_->read(read.from, {segment.fd, place.offset, place.size},
              [this, value = read.value, place](store::ReadOutcome outcome) {
                outcome.place = place;
                const auto found = segments_.find(place.segment);
                if (outcome.ok) {
                  found->second.view.seal(place);
                } else {
                  found->second.view.drop(place);
                  log_error(fmt::format("segment={} entry={} event=value_lost why=\"{}\"",
                                        number(value.segment), value.entry, outcome.why));
                }
                store::Effects effects;
                store::SpillEffects spill;
                spiller_.on_read(value, outcome, monotonic_now(), effects, spill);
                changed_ = true;
                carry_out(effects);
                carry_out(spill);
              });
}

void StoreShell::carry_out(const store::TryEvict& evict) {
  const auto found = segments_.find(evict.location.segment);
  if (found != segments_.end()) found->second.view.evict(evict.location);
  evicting_.push_back(evict);
}

void StoreShell::carry_out(const store::RemoveFile& remove) { disk_->remove(remove.file); }

void StoreShell::carry_out(const store::PunchHole& hole) { disk_->punch(hole); }

void StoreShell::carry_out(const store::TellPlace& tell) {
  sessions_.send(tell.process, [&](wire::Builder& builder) {
    const wire::fb::StoreLocation value = wire::to_wire(tell.value);
    const wire::fb::StoreLocation place = wire::to_wire(tell.place);
    return wire::fb::CreateStoredAt(builder, &value, &place, wire::fb::StoredProblem::none);
  });
}

void StoreShell::carry_out(const store::TellNoPlace& tell) {
  using wire::fb::StoredProblem;
  const bool lost = tell.problem == store::RestoreProblem::kLost;
  const StoredProblem full =
      spiller_.disk_is_full() ? StoredProblem::disk_full : StoredProblem::store_full;
  sessions_.send(tell.process, [&](wire::Builder& builder) {
    const wire::fb::StoreLocation value = wire::to_wire(tell.value);
    return wire::fb::CreateStoredAtDirect(builder, &value, nullptr,
                                          lost ? StoredProblem::lost : full, tell.why.c_str());
  });
}

void StoreShell::carry_out(const store::ValueLost& lost) {
  if (on_lost_) on_lost_(lost.value, lost.why);
}

// Why what there is cannot make room: part of the text of ObjectStoreFullError.
std::string StoreShell::explain() const {
  std::string text;
  const std::vector<wire::StoreLocation> places = spiller_.places();
  std::vector<std::pair<uint64_t, pid_t>> pinned;
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->uplink) continue;
    shm::PinScan scan;
    scan.add(session->pins());
    uint64_t bytes = 0;
    for (const wire::StoreLocation& place : places) bytes += scan.pinned(place) ? place.size : 0;
    if (bytes > 0) pinned.emplace_back(bytes, session->pid);
  }
  std::sort(pinned.rbegin(), pinned.rend());
  if (pinned.size() > kNamedMax) pinned.resize(kNamedMax);
  for (const auto& [bytes, pid] : pinned) {
    text += fmt::format("; pid {} looks at {} of it, which therefore must stay", pid, human(bytes));
  }
  if (!disk_) {
    text += "; nothing is spilled to disk: " + why_no_disk_;
  } else if (!spiller_.trouble().empty()) {
    text += "; " + spiller_.trouble();
  } else if (spiller_.totals().disk_values > 0) {
    text += fmt::format("; {} values are on disk already", spiller_.totals().disk_values);
  }
  return text;
}

}  // namespace mobula::node
