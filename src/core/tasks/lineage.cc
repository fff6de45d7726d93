#include "core/tasks/lineage.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::tasks {

namespace {

// Results that have gone are taken out of a task's list when they are more than the others, and these.
constexpr size_t kGoneMax = 64;

}  // namespace

Lineage::Task& Lineage::add(CallId call, uint64_t bytes, std::span<const ObjectId> arguments) {
  const auto [entry, is_new] = tasks_.try_emplace(call);
  MOBULA_CHECK(is_new);
  Task& task = entry->second;
  task.bytes = bytes;
  task.age = next_age_++;
  task.arguments.assign(arguments.begin(), arguments.end());
  for (const ObjectId argument : arguments) uses_[argument]++;
  bytes_ += bytes;
  return task;
}

void Lineage::add_wanted(Task& task, ObjectId result, Made made) {
  MOBULA_CHECK(made_.try_emplace(result, made).second);
  task.results.push_back(result);
  ++task.wanted;
}

void Lineage::keep(CallId call, uint64_t bytes, std::span<const ObjectId> results,
                   std::span<const ObjectId> arguments, Effects& effects) {
  MOBULA_CHECK(!results.empty());
  Task& task = add(call, bytes, arguments);
  task.results.reserve(results.size());
  for (const ObjectId result : results) add_wanted(task, result, {call, 0});
  by_age_.emplace(task.age, call);
  evict(effects);
}

void Lineage::open(CallId call, Costs costs, std::span<const ObjectId> arguments,
                   Effects& effects) {
  Task& task = add(call, costs.task_bytes, arguments);
  task.runs = 1;
  task.result_bytes = costs.result_bytes;
  evict(effects);
}

bool Lineage::add_result(CallId call, ObjectId result, uint64_t number, Effects& effects) {
  Task& task = tasks_.at(call);
  MOBULA_CHECK(task.runs > 0);
  bytes_ += task.result_bytes;
  evict(effects);
  if (bytes_ > options_.bytes_max) {
    bytes_ -= task.result_bytes;
    return false;
  }
  task.bytes += task.result_bytes;
  add_wanted(task, result, {call, number});
  return true;
}

void Lineage::begin(CallId call) {
  Task& task = tasks_.at(call);
  if (task.runs++ == 0) by_age_.erase(task.age);
}

void Lineage::end(CallId call, Effects& effects) {
  Task& task = tasks_.at(call);
  MOBULA_CHECK(task.runs > 0);
  if (--task.runs > 0) return;
  task.age = next_age_++;
  by_age_.emplace(task.age, call);
  if (task.wanted == 0) return drop(call, false, effects);
  evict(effects);
}

void Lineage::on_result_gone(ObjectId result, Effects& effects) {
  const auto found = made_.find(result);
  if (found == made_.end()) return;
  const CallId call = found->second.call;
  made_.erase(found);
  Task& task = tasks_.at(call);
  --task.wanted;
  task.bytes -= task.result_bytes;
  bytes_ -= task.result_bytes;
  if (task.wanted == 0 && task.runs == 0) return drop(call, false, effects);
  if (task.results.size() <= 2 * task.wanted + kGoneMax) return;
  std::erase_if(task.results, [&](ObjectId id) { return task_of(id) != call; });
}

void Lineage::forget(CallId call, Effects& effects) {
  Task& task = tasks_.at(call);
  if (task.runs == 0) by_age_.erase(task.age);
  task.runs = 1;  // As drop() finds it: in no order of age.
  drop(call, false, effects);
}

std::optional<CallId> Lineage::task_of(ObjectId result) const {
  const auto found = made_.find(result);
  if (found == made_.end()) return std::nullopt;
  return found->second.call;
}

std::vector<ObjectId> Lineage::results_of(CallId call) const {
  std::vector<ObjectId> results = tasks_.at(call).results;
  std::erase_if(results, [&](ObjectId id) { return task_of(id) != call; });
  return results;
}

void Lineage::evict(Effects& effects) {
  while (bytes_ > options_.bytes_max && !by_age_.empty()) {
    evicted_++;
    drop(by_age_.begin()->second, true, effects);
  }
}

void Lineage::drop(CallId call, bool evicted, Effects& effects) {
  const auto found = tasks_.find(call);
  const std::vector<ObjectId> results = results_of(call);
  const Task task = std::move(found->second);
  tasks_.erase(found);
  if (task.runs == 0) by_age_.erase(task.age);
  bytes_ -= task.bytes;
  for (const ObjectId result : results) made_.erase(result);
  for (const ObjectId argument : task.arguments) {
    const auto use = uses_.find(argument);
    MOBULA_CHECK(use != uses_.end());
    if (--use->second > 0) continue;
    uses_.erase(use);
    effects.unused.push_back(argument);
  }
  effects.forgotten.push_back({call, evicted ? results : std::vector<ObjectId>{}});
}

void Lineage::check_invariants() const {
  uint64_t bytes = 0;
  size_t results = 0;
  size_t resting = 0;
  std::unordered_map<ObjectId, uint32_t, ObjectIdHash> uses;
  for (const auto& [call, task] : tasks_) {
    bytes += task.bytes;
    const std::vector<ObjectId> wanted = results_of(call);
    results += wanted.size();
    MOBULA_CHECK(wanted.size() == task.wanted && (task.runs > 0 || !wanted.empty()));
    for (const ObjectId argument : task.arguments) uses[argument]++;
    if (task.runs > 0) continue;
    resting++;
    MOBULA_CHECK(by_age_.at(task.age) == call);
  }
  MOBULA_CHECK(bytes == bytes_ && results == made_.size() && resting == by_age_.size());
  MOBULA_CHECK(uses == uses_);
  MOBULA_CHECK(bytes_ <= options_.bytes_max || by_age_.empty());
}

}  // namespace mobula::tasks
