#include "core/scheduler/nesting_test_support.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::scheduler::testing_support {

NestedPrograms::NestedPrograms(NodeScheduler::Options options) : scheduler_(std::move(options)) {}

ProcessId NestedPrograms::add_driver(uint32_t job) {
  const ProcessId driver = scheduler_.new_process();
  scheduler_.add_driver(driver, JobId{job});
  processes_[driver].is_driver = true;
  return driver;
}

void NestedPrograms::submit(ProcessId driver, const TaskSpec& spec, uint32_t count) {
  for (uint32_t submitted = 0; submitted < count; ++submitted) {
    enqueue(driver, std::make_shared<Task>(Task{.spec = &spec, .depth = 1, .owner = driver}));
  }
  pump(driver);
}

bool NestedPrograms::run(Duration limit) {
  const Instant until = now_ + limit;
  const auto all_done = [&] {
    return std::ranges::all_of(
        processes_, [](const auto& entry) { return entry.second.submitted == entry.second.done; });
  };
  schedule();
  while (!all_done()) {
    if (deadline_ && (events_.empty() || *deadline_ < events_.begin()->first.first)) {
      now_ = *deadline_;
    } else {
      if (events_.empty()) return false;
      now_ = events_.begin()->first.first;
      const std::function<void()> event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      event();
    }
    if (now_ > until) return false;
    schedule();
  }
  return true;
}

uint32_t NestedPrograms::done(ProcessId driver) const { return processes_.at(driver).done; }

void NestedPrograms::after(Duration delay, std::function<void()> event) {
  events_.emplace(std::pair(now_ + delay, next_event_++), std::move(event));
}

void NestedPrograms::tell_daemon(std::function<void()> record) {
  after(latency, std::move(record));
}

void NestedPrograms::schedule() {
  Effects effects;
  scheduler_.schedule(now_, effects);
  scheduler_.check_invariants();
  deadline_ = scheduler_.next_deadline();
  if (deadline_) MOBULA_CHECK(*deadline_ > now_);
  for (const Effect& effect : effects) carry_out(effect);
  workers_peak_ = std::max(workers_peak_, scheduler_.worker_count());
}

void NestedPrograms::carry_out(const Effect& effect) {
  if (const auto* start = std::get_if<StartWorker>(&effect)) {
    after(worker_start, [this, worker = start->worker] {
      MOBULA_CHECK(scheduler_.worker_ready(worker, now_).has_value());
      processes_[worker];
    });
  } else if (const auto* stop = std::get_if<StopWorker>(&effect)) {
    MOBULA_CHECK(stop->reason == StopReason::kIdle);
    MOBULA_CHECK(!processes_.at(stop->worker).running);
    after(latency, [this, worker = stop->worker] {
      MOBULA_CHECK(scheduler_.process_exited(worker, now_).has_value());
    });
  } else if (const auto* grant = std::get_if<GrantLease>(&effect)) {
    after(latency, [this, granted = *grant] {
      processes_.at(granted.owner)
          .leases.emplace(granted.lease, HeldLease{granted.shape, granted.worker});
      pump(granted.owner);
    });
  } else if (const auto* reclaim = std::get_if<ReclaimLease>(&effect)) {
    after(latency, [this, asked = *reclaim] {
      auto& leases = processes_.at(asked.owner).leases;
      if (const auto lease = leases.find(asked.lease); lease != leases.end()) {
        lease->second.is_reclaimed = true;
      }
      pump(asked.owner);
    });
  } else {
    MOBULA_CHECK(std::holds_alternative<GroupChanged>(effect));
  }
}

void NestedPrograms::enqueue(ProcessId owner_id, Work task) {
  Process& owner = processes_.at(owner_id);
  ++owner.submitted;
  const auto known = std::ranges::find_if(owner.shapes, [&](const Shape& shape) {
    return shape.resources == task->spec->resources && shape.depth == task->depth &&
           shape.bundle == task->spec->bundle;
  });
  if (known != owner.shapes.end()) {
    known->queue.push_back(std::move(task));
    return;
  }
  Shape shape;
  shape.resources = task->spec->resources;
  shape.depth = task->depth;
  shape.bundle = task->spec->bundle;
  shape.queue.push_back(std::move(task));
  owner.shapes.push_back(std::move(shape));
  tell_daemon([this, owner_id, id = ShapeId{static_cast<uint32_t>(owner.shapes.size())},
               resources = owner.shapes.back().resources, depth = owner.shapes.back().depth,
               bundle = owner.shapes.back().bundle] {
    const NodeScheduler::Manner manner{0, {}, bundle};
    MOBULA_CHECK(scheduler_.define_shape(owner_id, id, resources, depth, manner).has_value());
  });
}

void NestedPrograms::pump(ProcessId owner_id) {
  Process& owner = processes_.at(owner_id);
  std::vector<LeaseId> returned;
  for (auto& [id, lease] : owner.leases) {
    if (lease.is_busy) continue;
    auto& queue = owner.shapes[number(lease.shape) - 1].queue;
    if (lease.is_reclaimed) {
      returned.push_back(id);
    } else if (!queue.empty()) {
      lease.is_busy = true;
      start_task(owner_id, id, queue.front());
      queue.pop_front();
    }
  }
  for (const LeaseId lease : returned) give_back(owner_id, lease);
  tell_targets(owner_id);
}

void NestedPrograms::tell_targets(ProcessId owner_id) {
  Process& owner = processes_.at(owner_id);
  std::vector<uint32_t> busy(owner.shapes.size());
  std::vector<uint32_t> held(owner.shapes.size());
  for (const auto& [id, lease] : owner.leases) {
    ++held[number(lease.shape) - 1];
    if (lease.is_busy) ++busy[number(lease.shape) - 1];
  }
  for (size_t index = 0; index < owner.shapes.size(); ++index) {
    Shape& shape = owner.shapes[index];
    const auto queued = static_cast<uint32_t>(shape.queue.size());
    const uint32_t target = std::max(busy[index] + queued, held[index]);
    if (target == std::exchange(shape.sent_target, target)) continue;
    tell_daemon([this, owner_id, id = ShapeId{static_cast<uint32_t>(index + 1)}, target] {
      MOBULA_CHECK(scheduler_.set_target(owner_id, id, target).has_value());
    });
  }
}

void NestedPrograms::give_back(ProcessId owner, LeaseId lease) {
  MOBULA_CHECK(processes_.at(owner).leases.erase(lease) == 1);
  tell_targets(owner);  // First: else it would be granted again.
  tell_daemon([this, owner, lease] {
    MOBULA_CHECK(scheduler_.lease_returned(owner, lease, now_).has_value());
  });
}

void NestedPrograms::start_task(ProcessId owner, LeaseId lease, const Work& task) {
  task->worker = processes_.at(owner).leases.at(lease).worker;
  lease_of_[task.get()] = lease;
  Process& worker = processes_.at(task->worker);
  MOBULA_CHECK(!worker.running);
  worker.running = task;
  work(task, &NestedPrograms::start_children);
}

void NestedPrograms::work(const Work& task, void (NestedPrograms::*then)(const Work&)) {
  working_peak_ = std::max(working_peak_, ++working_);
  after(task->spec->work / 2, [this, task, then] {
    --working_;
    (this->*then)(task);
  });
}

void NestedPrograms::start_children(const Work& task) {
  const TaskSpec& spec = *task->spec;
  for (uint32_t child = 0; child < spec.children; ++child) {
    enqueue(task->worker,
            std::make_shared<Task>(
                Task{.spec = spec.child, .depth = task->depth + 1, .owner = task->worker}));
  }
  task->waiting_for = std::min(spec.children, spec.children_awaited);
  if (spec.rendezvous > 0) {
    ++task->waiting_for;
    rendezvous_[&spec].push_back(task);
  }
  pump(task->worker);
  if (task->waiting_for > 0) wait(task);
  if (spec.rendezvous > 0 && ++started_[&spec] == spec.rendezvous) {
    for (const Work& waiting : rendezvous_[&spec]) child_done(waiting);
  }
  if (spec.children + spec.rendezvous == 0) {
    work(task, &NestedPrograms::finish);
  }
}

void NestedPrograms::wait(const Work& task) {
  task->wait = next_wait_++;
  after(blocked_after, [this, task, waiting = task->wait] {
    if (task->wait != waiting) return;
    task->is_blocked = true;
    tell_daemon([this, worker = task->worker] {
      MOBULA_CHECK(scheduler_.process_blocked(worker).has_value());
    });
  });
}

void NestedPrograms::child_done(const Work& task) {
  if (--task->waiting_for > 0) return;
  task->wait = 0;
  if (task->is_blocked) {
    tell_daemon([this, worker = task->worker] {
      MOBULA_CHECK(scheduler_.process_unblocked(worker).has_value());
    });
  }
  work(task, &NestedPrograms::finish);
}

void NestedPrograms::finish(const Work& task) {
  const LeaseId id = lease_of_.at(task.get());
  processes_.at(task->worker).running.reset();
  lease_of_.erase(task.get());
  Process& owner = processes_.at(task->owner);
  ++owner.done;
  owner.last_done = now_;
  HeldLease& lease = owner.leases.at(id);
  lease.is_busy = false;
  after(idle_kept, [this, owner_id = task->owner, id, turn = ++lease.idle_turn] {
    auto& leases = processes_.at(owner_id).leases;
    const auto held = leases.find(id);
    if (held == leases.end() || held->second.is_busy || held->second.idle_turn != turn) return;
    give_back(owner_id, id);
  });
  if (owner.running && owner.running->waiting_for > 0) child_done(Work(owner.running));
  pump(task->owner);
}

}  // namespace mobula::scheduler::testing_support
