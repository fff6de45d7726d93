#include "core/scheduler/caps.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::scheduler {

Caps::Caps(Options options, ResourceAmount cpus_total)
    : options_(options), cpus_total_(cpus_total) {
  MOBULA_CHECK(options_.raise_delay.count() > 0);
  MOBULA_CHECK(options_.raise_delay_max >= options_.raise_delay);
}

ClassId Caps::join(JobId job, const ResourceSet& resources, uint32_t depth,
                   PlacementGroupId group) {
  Key key(job, depth, group, resources.amounts());
  const auto [found, is_new] = ids_.try_emplace(key, ClassId{next_class_});
  if (is_new) {
    ++next_class_;
    Class made;
    const ResourceAmount cpus = resources.get(kCpu);
    const ResourceAmount base =
        cpus > 0
            ? std::max<ResourceAmount>(cpus_total_ / cpus, 1)
            : std::max<ResourceAmount>(options_.zero_cpu_min,
                                       options_.zero_cpu_per_cpu * (cpus_total_ / kResourceUnit));
    made.base = static_cast<uint32_t>(std::min<ResourceAmount>(base, UINT32_MAX / 2));
    made.limit = made.base;
    made.delay = options_.raise_delay;
    made.key = std::move(key);
    classes_.emplace(found->second, std::move(made));
  }
  ++classes_.at(found->second).users;
  return found->second;
}

void Caps::leave(ClassId id) {
  Class& left = classes_.at(id);
  MOBULA_CHECK(left.users > 0);
  --left.users;
  forget_if_unused(id);
}

bool Caps::allows(ClassId id) const {
  const Class& asked = classes_.at(id);
  return asked.in_use < asked.limit;
}

void Caps::lease_begins(ClassId id) { ++classes_.at(id).in_use; }

void Caps::lease_ends(ClassId id) {
  Class& ended = classes_.at(id);
  MOBULA_CHECK(ended.in_use > 0);
  --ended.in_use;
  ended.limit = ended.base;
  ended.delay = options_.raise_delay;
  ended.held_up_for = Duration(0);
  forget_if_unused(id);
}

void Caps::lease_unplanned(ClassId id) {
  Class& planned = classes_.at(id);
  MOBULA_CHECK(planned.in_use > 0 && planned.users > 0);
  --planned.in_use;
}

void Caps::advance(Instant now) {
  for (auto at = watched_.begin(); at != watched_.end();) {
    Class& watched = classes_.at(*at);
    const Duration elapsed = now - watched.accounted;
    watched.accounted = now;
    if (watched.held_up) {
      watched.held_up_for += elapsed;
      if (watched.held_up_for >= watched.delay) {
        watched.limit = std::max(watched.limit, watched.in_use) + 1;
        watched.held_up_for = Duration(0);
        watched.delay = std::min(watched.delay * 2, options_.raise_delay_max);
      }
    } else {
      watched.held_up_for = std::max(watched.held_up_for - elapsed / kForget, Duration(0));
    }
    const bool is_over = !watched.held_up && watched.held_up_for.count() == 0;
    watched.held_up = false;
    at = is_over ? watched_.erase(at) : std::next(at);
  }
}

void Caps::held_up(ClassId id, Instant now) {
  Class& held = classes_.at(id);
  held.held_up = true;
  if (watched_.insert(id).second) held.accounted = now;
}

std::optional<Instant> Caps::next_deadline() const {
  std::optional<Instant> next;
  for (const ClassId id : watched_) {
    const Class& watched = classes_.at(id);
    if (!watched.held_up) continue;
    const Instant at = watched.accounted + (watched.delay - watched.held_up_for);
    if (!next || at < *next) next = at;
  }
  return next;
}

void Caps::forget_if_unused(ClassId id) {
  const auto found = classes_.find(id);
  if (found->second.users > 0 || found->second.in_use > 0) return;
  ids_.erase(found->second.key);
  watched_.erase(id);
  classes_.erase(found);
}

void Caps::check_invariants() const {
  MOBULA_CHECK(ids_.size() == classes_.size());
  for (const auto& [key, id] : ids_) MOBULA_CHECK(classes_.at(id).key == key);
  for (const auto& [id, known] : classes_) {
    MOBULA_CHECK(known.users > 0 || known.in_use > 0);
    MOBULA_CHECK(known.limit >= known.base && known.base > 0);
    MOBULA_CHECK(known.held_up_for.count() >= 0);
    MOBULA_CHECK(!known.held_up || watched_.contains(id));
  }
  for (const ClassId id : watched_) MOBULA_CHECK(classes_.contains(id));
}

}  // namespace mobula::scheduler
