#include "core/tasks/lineage.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::tasks {

void Lineage::keep(CallId call, uint64_t bytes, std::span<const ObjectId> results,
                   std::span<const ObjectId> arguments, Effects& effects) {
  MOBULA_CHECK(!results.empty());
  const auto [entry, is_new] = tasks_.try_emplace(call);
  MOBULA_CHECK(is_new);
  Task& task = entry->second;
  task.bytes = bytes;
  task.age = next_age_++;
  task.results.assign(results.begin(), results.end());
  task.arguments.assign(arguments.begin(), arguments.end());
  for (const ObjectId result : results) MOBULA_CHECK(task_of_.try_emplace(result, call).second);
  for (const ObjectId argument : arguments) uses_[argument]++;
  by_age_.emplace(task.age, call);
  bytes_ += bytes;
  evict(effects);
}

void Lineage::begin(CallId call) {
  Task& task = tasks_.at(call);
  MOBULA_CHECK(!task.running);
  task.running = true;
  by_age_.erase(task.age);
}

void Lineage::end(CallId call, Effects& effects) {
  Task& task = tasks_.at(call);
  MOBULA_CHECK(task.running);
  task.running = false;
  task.age = next_age_++;
  by_age_.emplace(task.age, call);
  if (task.results.empty()) return drop(call, false, effects);
  evict(effects);
}

void Lineage::on_result_gone(ObjectId result, Effects& effects) {
  const auto found = task_of_.find(result);
  if (found == task_of_.end()) return;
  const CallId call = found->second;
  task_of_.erase(found);
  Task& task = tasks_.at(call);
  std::erase(task.results, result);
  if (task.results.empty() && !task.running) drop(call, false, effects);
}

void Lineage::forget(CallId call, Effects& effects) {
  Task& task = tasks_.at(call);
  if (!task.running) by_age_.erase(task.age);
  task.running = true;  // As drop() finds it: in no order of age.
  drop(call, false, effects);
}

std::optional<CallId> Lineage::task_of(ObjectId result) const {
  const auto found = task_of_.find(result);
  if (found == task_of_.end()) return std::nullopt;
  return found->second;
}

void Lineage::evict(Effects& effects) {
  while (bytes_ > options_.bytes_max && !by_age_.empty()) {
    evicted_++;
    drop(by_age_.begin()->second, true, effects);
  }
}

void Lineage::drop(CallId call, bool evicted, Effects& effects) {
  const auto found = tasks_.find(call);
  const Task task = std::move(found->second);
  tasks_.erase(found);
  if (!task.running) by_age_.erase(task.age);
  bytes_ -= task.bytes;
  for (const ObjectId result : task.results) task_of_.erase(result);
  for (const ObjectId argument : task.arguments) {
    const auto use = uses_.find(argument);
    MOBULA_CHECK(use != uses_.end());
    if (--use->second > 0) continue;
    uses_.erase(use);
    effects.unused.push_back(argument);
  }
  effects.forgotten.push_back({call, evicted ? task.results : std::vector<ObjectId>{}});
}

void Lineage::check_invariants() const {
  uint64_t bytes = 0;
  size_t results = 0;
  size_t resting = 0;
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> uses;
  for (const auto& [call, task] : tasks_) {
    bytes += task.bytes;
    results += task.results.size();
    MOBULA_CHECK(task.running || !task.results.empty());
    for (const ObjectId result : task.results) MOBULA_CHECK(task_of_.at(result) == call);
    for (const ObjectId argument : task.arguments) uses[argument]++;
    if (task.running) continue;
    resting++;
    MOBULA_CHECK(by_age_.at(task.age) == call);
  }
  MOBULA_CHECK(bytes == bytes_ && results == task_of_.size() && resting == by_age_.size());
  MOBULA_CHECK(uses == uses_);
  MOBULA_CHECK(bytes_ <= options_.bytes_max || by_age_.empty());
}

}  // namespace mobula::tasks
