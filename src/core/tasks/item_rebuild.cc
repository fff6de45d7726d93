#include "core/tasks/item_rebuild.h"

#include "base/check.h"

namespace mobula::tasks {

ItemRebuild::Place ItemRebuild::lose(uint64_t number) {
  if (!running_) {
    running_ = true;
    passed_ = 0;
    this_run_.insert(number);
    return Place::kStartRun;
  }
  if (this_run_.contains(number)) return Place::kThisRun;
  if (number < passed_ || closed_) {
    next_run_.insert(number);
    return Place::kNextRun;
  }
  this_run_.insert(number);
  return Place::kThisRun;
}

bool ItemRebuild::on_item(uint64_t number) {
  if (!running_) return false;
  passed_ = number + 1;
  return this_run_.erase(number) > 0;
}

void ItemRebuild::close() {
  MOBULA_CHECK(running_ && has_all());
  closed_ = true;
}

ItemRebuild::Ended ItemRebuild::on_end() {
  MOBULA_CHECK(running_);
  Ended ended;
  ended.missing.assign(this_run_.begin(), this_run_.end());
  ended.again = !next_run_.empty();
  this_run_ = std::move(next_run_);
  next_run_.clear();
  passed_ = 0;
  closed_ = false;
  running_ = ended.again;
  return ended;
}

void ItemRebuild::check_invariants() const {
  MOBULA_CHECK(running_ || (this_run_.empty() && next_run_.empty() && !closed_));
  MOBULA_CHECK(!closed_ || this_run_.empty());
  for (const uint64_t number : next_run_) {
    MOBULA_CHECK(!this_run_.contains(number));
  }
}

}  // namespace mobula::tasks
