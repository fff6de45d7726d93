// Ends: the sweep that precedes every drop, deaths and burials, the end of a job; and the books.

#include <algorithm>
#include <deque>

#include "base/check.h"
#include "core/objects/object_directory.h"

namespace mobula::objects {

namespace {

using ObjectSet = std::unordered_set<ObjectId, ObjectIdHash>;

// Hash order must decide nothing.
std::vector<ObjectId> sorted(const ObjectSet& objects) {
  std::vector<ObjectId> list(objects.begin(), objects.end());
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace

// ---- the sweep ---------------------------------------------------------------------------------

void ObjectDirectory::begin_pass() {
  MOBULA_CHECK(!in_pass_);
  in_pass_ = true;
  passes_begun_++;
}

void ObjectDirectory::complete_pass(Effects& effects) {
  MOBULA_CHECK(in_pass_);
  in_pass_ = false;
  // Numbers only grow, so what this pass proves stands first.
  size_t proven = 0;
  while (proven < sweep_.size() && sweep_[proven].since < passes_begun_) proven++;
  const std::vector<Candidate> candidates(sweep_.begin(),
                                          sweep_.begin() + static_cast<ptrdiff_t>(proven));
  sweep_.erase(sweep_.begin(), sweep_.begin() + static_cast<ptrdiff_t>(proven));
  for (const Candidate& candidate : candidates) {
    if (const ObjectId* object = std::get_if<ObjectId>(&candidate.what)) {
      const auto entry = entries_.find(*object);
      if (entry == entries_.end() || entry->second.since != candidate.since) continue;
      entry->second.since = 0;
      if (entry->second.holds == 0) drop_entry(*object, effects);
    } else {
      const auto extent = extents_.find(std::get<ExtentKey>(candidate.what));
      if (extent == extents_.end() || extent->second.since != candidate.since) continue;
      extent->second.since = 0;
      if (extent->second.owners > 0) continue;
      effects.emplace_back(FreeExtent{extent->second.location});
      extents_.erase(extent);
    }
  }
  if (jobs_ending_ == 0) return;
  std::vector<JobId> ending;
  for (const auto& [id, job] : jobs_) {
    if (job.collect_after_pass > 0 && job.collect_after_pass < passes_begun_) ending.push_back(id);
  }
  for (const JobId id : ending) {
    const Job job = std::move(jobs_.at(id));
    jobs_.erase(id);
    jobs_ending_--;
    collect_job(id, job, effects);
  }
}

// ---- deaths ------------------------------------------------------------------------------------

void ObjectDirectory::on_process_died(ProcessId process, Effects& effects) {
  Process& dead = processes_.at(process);
  MOBULA_CHECK(dead.life == Life::kAlive);
  dead.life = Life::kDead;
  dead_.insert(process);
  for (const ObjectId object : dead.waits) std::erase(entries_.at(object).waiters, process);
  dead.waits.clear();
  for (const ProcessId peer : dead.peers) {
    processes_.at(peer).peers.erase(process);
    dead.undrained.insert(peer);
    effects.emplace_back(SendPeerDied{peer, process});
  }
  dead.peers.clear();
  for (const ProcessId other : dead_) processes_.at(other).undrained.erase(process);
  // Its uplink was read: the parcels that these waited for will not come.
  for (auto& [caller, state] : processes_) {
    auto close = early_closes_.lower_bound({caller, process, CallId{0}});
    while (close != early_closes_.end() && close->caller == caller && close->callee == process) {
      close = early_closes_.erase(close);
      state.early_closes--;
    }
  }
  bury_ready(effects);
}

Result<void> ObjectDirectory::on_drained(ProcessId process, ProcessId dead,
                                         std::span<const CallId> open_calls, Effects& effects) {
  MOBULA_TRY(live_process(process));
  const auto found = processes_.find(dead);
  if (found == processes_.end() || !found->second.undrained.contains(process)) {
    return fail(ErrorCode::kInvalidArgument, "an answer to a death that was not announced");
  }
  // A parcel that is not open over there belongs to a result that was never published.
  const std::set<CallId> open(open_calls.begin(), open_calls.end());
  auto parcel = parcels_.lower_bound({process, dead, CallId{0}});
  while (parcel != parcels_.end() && parcel->first.caller == process &&
         parcel->first.callee == dead) {
    const auto next = std::next(parcel);
    if (!open.contains(parcel->first.call)) drop_parcel(parcel);
    parcel = next;
  }
  found->second.undrained.erase(process);
  bury_ready(effects);
  return {};
}

void ObjectDirectory::bury_ready(Effects& effects) {
  for (auto it = dead_.begin(); it != dead_.end();) {
    const ProcessId process = *it;
    if (!processes_.at(process).undrained.empty()) {
      ++it;
      continue;
    }
    it = dead_.erase(it);
    bury(process, effects);
  }
}

void ObjectDirectory::bury(ProcessId process, Effects& effects) {
  const Process dead = std::move(processes_.at(process));
  processes_.erase(process);
  for (const ObjectId object : sorted(dead.holds)) drop_hold(object);
  auto parcel = parcels_.lower_bound({process, ProcessId{0}, CallId{0}});
  while (parcel != parcels_.end() && parcel->first.caller == process) {
    const auto next = std::next(parcel);
    drop_parcel(parcel);
    parcel = next;
  }
  auto close = early_closes_.lower_bound({process, ProcessId{0}, CallId{0}});
  while (close != early_closes_.end() && close->caller == process) {
    close = early_closes_.erase(close);
  }
  for (const ObjectId object : sorted(dead.owes)) {
    Entry& entry = entries_.at(object);
    if (entry.state == State::kPending) {
      entry.owed = true;
      effects.emplace_back(OwedReady{object, process, dead.job, entry.spec});
    } else {
      answer_waiters(object, entry, "the process that made the object died before it shared it",
                     effects);
    }
  }
  effects.emplace_back(Buried{process});
  Job& job = jobs_.at(dead.job);
  job.processes.erase(process);
  if (job.end_error != nullptr && job.processes.empty()) start_collecting(job, effects);
}

Result<void> ObjectDirectory::settle_estate(ObjectId object, ValuePtr value, Effects& effects) {
  MOBULA_CHECK(value != nullptr);
  const auto found = entries_.find(object);
  if (found == entries_.end() || !found->second.owed) {
    return fail(ErrorCode::kNotFound, "nobody waits for this object of a dead process");
  }
  MOBULA_TRY(check_refs(value->refs));
  MOBULA_TRY(check_room(value->refs.size()));
  set_value(object, found->second, std::move(value), effects);
  return {};
}

// ---- the end of a job --------------------------------------------------------------------------

void ObjectDirectory::on_job_ended(JobId id, ValuePtr error, Effects& effects) {
  MOBULA_CHECK(error != nullptr);
  Job& job = jobs_[id];
  if (job.end_error != nullptr) return;
  job.end_error = std::move(error);
  const std::vector<ObjectId> holds = sorted(job.holds);
  job.holds.clear();
  drop_holds(holds, ObjectId{});
  if (job.processes.empty()) start_collecting(job, effects);
}

void ObjectDirectory::start_collecting(Job& job, Effects& effects) {
  for (const ObjectId object : objects_of(job)) {
    Entry& entry = entries_.at(object);
    if (entry.state == State::kPending) set_value(object, entry, job.end_error, effects);
  }
  job.collect_after_pass = passes_begun_;
  jobs_ending_++;
}

std::vector<ObjectId> ObjectDirectory::objects_of(const Job& job) const {
  std::vector<ObjectId> objects;
  for (const auto& [object, entry] : entries_) {
    if (job.creators.contains(object.creator)) objects.push_back(object);
  }
  std::sort(objects.begin(), objects.end());
  return objects;
}

// Nobody of the job is left. What only objects of the job hold is unreachable (cycles); it loses its
// contents here, therefore its holds, and is dropped after the next pass like everything else.
void ObjectDirectory::collect_job(JobId id, const Job& job, Effects& effects) {
  const std::vector<ObjectId> objects = objects_of(job);
  const ObjectSet kept = reached_from_outside(objects);
  for (const ObjectId object : objects) {
    if (!kept.contains(object)) forget_contents(object, entries_.at(object));
  }
  effects.emplace_back(JobCollected{id});
}

ObjectSet ObjectDirectory::reached_from_outside(const std::vector<ObjectId>& objects) const {
  const auto for_each_inside = [this](ObjectId object, const auto& visit) {
    const Entry& entry = entries_.at(object);
    for (const ObjectId inside : entry.spec_refs) {
      if (inside != object) visit(inside);
    }
    for (const ObjectId inside : entry.lost_refs) {
      if (inside != object) visit(inside);
    }
    if (entry.value == nullptr) return;
    for (const ObjectId inside : entry.value->refs) {
      if (inside != object) visit(inside);
    }
  };
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> from_within;
  for (const ObjectId object : objects) from_within[object] = 0;
  for (const ObjectId object : objects) {
    for_each_inside(object, [&](ObjectId inside) {
      if (const auto found = from_within.find(inside); found != from_within.end()) found->second++;
    });
  }
  ObjectSet reached;
  std::deque<ObjectId> open;
  const auto reach = [&](ObjectId object) {
    if (from_within.contains(object) && reached.insert(object).second) open.push_back(object);
  };
  for (const ObjectId object : objects) {
    if (entries_.at(object).holds > from_within[object]) reach(object);
  }
  while (!open.empty()) {
    const ObjectId object = open.front();
    open.pop_front();
    for_each_inside(object, reach);
  }
  return reached;
}

// ---- the books ---------------------------------------------------------------------------------

void ObjectDirectory::check_invariants() const {
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> holds;
  std::map<ExtentKey, uint32_t> owners;
  const auto count = [&](std::span<const ObjectId> refs, ObjectId except) {
    for (const ObjectId object : refs) {
      if (object != except) holds[object]++;
    }
  };
  const auto own = [&](const wire::StoreLocation& location) {
    owners[{location.segment, location.entry, location.generation}]++;
  };
  std::map<ProcessId, size_t> waits;
  for (const auto& [object, entry] : entries_) {
    MOBULA_CHECK((entry.state == State::kReady) == (entry.value != nullptr));
    MOBULA_CHECK(entry.state == State::kPending || entry.spec_refs.empty());
    MOBULA_CHECK(!entry.owed || entry.state == State::kPending);
    MOBULA_CHECK(entry.state != State::kReady || entry.waiters.empty());
    MOBULA_CHECK(entry.holds > 0 || entry.since > 0);  // Held, or about to go.
    count(entry.spec_refs, object);
    count(entry.lost_refs, object);
    if (entry.value != nullptr) {
      count(entry.value->refs, object);
      if (entry.value->location) own(*entry.value->location);
    }
    for (const ProcessId waiter : entry.waiters) {
      MOBULA_CHECK(processes_.at(waiter).waits.contains(object));
      waits[waiter]++;
    }
    const auto creator = processes_.find(object.creator);
    MOBULA_CHECK(creator == processes_.end() ||
                 creator->second.owes.contains(object) == (entry.state != State::kReady));
  }
  for (const auto& [key, parcel] : parcels_) {
    MOBULA_CHECK(processes_.contains(key.caller));
    count(parcel.refs, ObjectId{});
    for (const wire::StoreLocation& location : parcel.locations) own(location);
  }
  std::map<ProcessId, size_t> early;
  for (const ParcelKey& key : early_closes_) {
    MOBULA_CHECK(processes_.at(key.callee).life == Life::kAlive);
    early[key.caller]++;
  }
  for (const auto& [id, process] : processes_) {
    MOBULA_CHECK((process.life == Life::kDead) == dead_.contains(id));
    MOBULA_CHECK(process.waits.size() == waits[id] && process.early_closes == early[id]);
    for (const ObjectId object : process.holds) holds[object]++;
    for (const ObjectId object : process.owes) MOBULA_CHECK(entries_.contains(object));
    for (const ProcessId peer : process.peers) {
      MOBULA_CHECK(processes_.at(peer).life == Life::kAlive);
    }
    for (const ProcessId peer : process.undrained) {
      MOBULA_CHECK(process.life == Life::kDead && processes_.at(peer).life == Life::kAlive);
    }
  }
  for (const auto& [id, job] : jobs_) {
    for (const ObjectId object : job.holds) holds[object]++;
  }
  for (const auto& [object, entry] : entries_) {
    const auto counted = holds.find(object);
    MOBULA_CHECK(entry.holds == (counted == holds.end() ? 0 : counted->second));
  }
  for (const auto& [object, held] : holds) MOBULA_CHECK(entries_.contains(object));
  for (const auto& [key, extent] : extents_) {
    const auto counted = owners.find(key);
    MOBULA_CHECK(extent.owners == (counted == owners.end() ? 0 : counted->second));
    MOBULA_CHECK(extent.owners > 0 || extent.since > 0);
  }
  for (const auto& [key, owned] : owners) MOBULA_CHECK(extents_.contains(key));
}

}  // namespace mobula::objects
