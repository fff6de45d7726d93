#include "core/tasks/dispatcher.h"

#include <algorithm>
#include <limits>

namespace mobula::tasks {

namespace {
constexpr uint32_t kNoLimit = std::numeric_limits<uint32_t>::max();
}

// The queued tasks of one function within a shape; or of all functions, if it has a limit: who says how
// many tasks may run at a time expects them to start in the order of submission.
struct FunctionQueue {
  TaskList tasks;
  FunctionQueue* next_turn = nullptr;  // Ring of queues with tasks.
  FunctionState* function = nullptr;   // nullptr: of all.
  bool waiting = false;                // In the ring.
};

struct Shape {
  uint32_t number = 0;
  std::map<FunctionState*, std::unique_ptr<FunctionQueue>> queues;  // Looked up, never iterated
                                                                    // for a decision.
  FunctionQueue* last_turn = nullptr;  // The ring's end; its next_turn is served next.
  FunctionQueue* recent = nullptr;     // Of the last submit: most programs submit in runs.
  uint64_t queued = 0;
  Duration queued_load{0};
  uint64_t in_flight = 0;
  Duration in_flight_load{0};
  std::vector<Lease*> leases;
  uint32_t target_told = 0;
  uint32_t leases_max = kNoLimit;
  bool dirty = false;
};

Dispatcher::Dispatcher(Options options) : options_(options) {
  MOBULA_CHECK(options_.in_flight_max > 0);
  MOBULA_CHECK(options_.load_per_lease.count() > 0);
}

Dispatcher::~Dispatcher() = default;

Shape& Dispatcher::shape_of(uint32_t number) {
  std::unique_ptr<Shape>& shape = shapes_[number];
  if (!shape) {
    shape = std::make_unique<Shape>();
    shape->number = number;
  }
  return *shape;
}

FunctionQueue& Dispatcher::queue_of(Shape& shape, FunctionState& function) {
  FunctionState* const of = shape.leases_max == kNoLimit ? &function : nullptr;
  if (shape.recent != nullptr && shape.recent->function == of) return *shape.recent;
  std::unique_ptr<FunctionQueue>& queue = shape.queues[of];
  if (!queue) {
    queue = std::make_unique<FunctionQueue>();
    queue->function = of;
  }
  shape.recent = queue.get();
  return *queue;
}

Duration Dispatcher::estimate(const TaskNode& task) const {
  return task.function->measured ? task.function->estimate : options_.load_per_lease;
}

void Dispatcher::mark_dirty(Shape& shape) {
  if (shape.dirty) return;
  shape.dirty = true;
  dirty_.push_back(&shape);
}

void Dispatcher::enqueue(TaskNode& task, bool front) {
  Shape& shape = shape_of(task.shape);
  FunctionQueue& queue = queue_of(shape, *task.function);
  task.state = TaskState::kQueued;
  task.counted = estimate(task);
  task.lease = nullptr;
  if (front) {
    queue.tasks.push_front(task);
  } else {
    queue.tasks.push_back(task);
  }
  if (!queue.waiting) {  // Joins the ring as the last to be served.
    queue.waiting = true;
    if (shape.last_turn == nullptr) {
      queue.next_turn = &queue;
    } else {
      queue.next_turn = shape.last_turn->next_turn;
      shape.last_turn->next_turn = &queue;
    }
    shape.last_turn = &queue;
  }
  ++shape.queued;
  ++queued_;
  shape.queued_load += task.counted;
  mark_dirty(shape);
}

TaskNode* Dispatcher::next_queued(Shape& shape) {
  return shape.last_turn == nullptr ? nullptr : shape.last_turn->next_turn->tasks.front();
}

void Dispatcher::dequeue(Shape& shape, TaskNode& task) {
  FunctionQueue& queue = queue_of(shape, *task.function);
  queue.tasks.remove(task);
  --shape.queued;
  --queued_;
  shape.queued_load -= task.counted;
  task.state = TaskState::kHeld;
  if (!queue.tasks.empty()) {
    // Served: the turn passes to the next function.
    if (shape.last_turn->next_turn == &queue) shape.last_turn = &queue;
    return;
  }
  FunctionQueue* before = &queue;
  while (before->next_turn != &queue) before = before->next_turn;
  if (before == &queue) {
    shape.last_turn = nullptr;
  } else {
    before->next_turn = queue.next_turn;
    if (shape.last_turn == &queue) shape.last_turn = before;
  }
  queue.next_turn = nullptr;
  queue.waiting = false;
}

void Dispatcher::submit(TaskNode& task, Instant now, Effects& effects) {
  MOBULA_CHECK(task.state == TaskState::kHeld);
  Shape& shape = shape_of(task.shape);
  if (shape.queued == 0) {  // The common case: straight to a worker.
    task.counted = estimate(task);
    if (Lease* lease = choose(shape, task.counted)) {
      place(task, *lease, now, effects);
      return;
    }
  }
  enqueue(task, false);
  // While the daemon still owes us leases the next settle() is soon enough to ask for more.
  if (shape.target_told <= shape.leases.size()) tell_target(shape, effects);
}

void Dispatcher::limit_leases(uint32_t shape, uint32_t leases_max) {
  MOBULA_CHECK(leases_max > 0);
  Shape& limited = shape_of(shape);
  MOBULA_CHECK(limited.leases_max != kNoLimit || limited.queues.empty());
  limited.leases_max = leases_max;
}

void Dispatcher::withdraw(TaskNode& task) {
  MOBULA_CHECK(task.state == TaskState::kQueued);
  Shape& shape = shape_of(task.shape);
  dequeue(shape, task);
  mark_dirty(shape);  // Fewer leases may be wanted.
}

Lease* Dispatcher::lease_of(ChannelId channel) {
  const auto found = leases_.find(channel);
  return found == leases_.end() ? nullptr : found->second.get();
}

void Dispatcher::on_lease_granted(LeaseId id, uint32_t shape_number, ChannelId channel,
                                  uint32_t epoch, Instant now) {
  Shape& shape = shape_of(shape_number);
  std::unique_ptr<Lease>& lease = leases_[channel];
  if (lease) return;  // One lease a worker at a time; the daemon is confused.
  lease = std::make_unique<Lease>();
  lease->id = id;
  lease->channel = channel;
  lease->epoch = epoch;
  lease->shape = &shape;
  lease->idle_since = now;
  lease->head_since = now;
  shape.leases.push_back(lease.get());
  mark_dirty(shape);
}

void Dispatcher::on_lease_reclaim(LeaseId id) {
  for (auto& [channel, lease] : leases_) {
    if (lease->id != id) continue;
    lease->reclaimed = true;
    mark_dirty(*lease->shape);
    return;
  }
}

void Dispatcher::on_channel_gone(ChannelId channel) {
  const auto found = leases_.find(channel);
  if (found == leases_.end()) return;
  Lease& lease = *found->second;
  MOBULA_CHECK(lease.in_flight.empty());
  std::erase(lease.shape->leases, &lease);
  // The daemon still has the level we told it, and grants another lease: settle() lowers it if that
  // is not wanted any more.
  mark_dirty(*lease.shape);
  leases_.erase(found);
}

bool Dispatcher::has_room(const Lease& lease, Duration counted) const {
  if (lease.blocked || lease.reclaimed || lease.stalled) return false;
  if (lease.in_flight.empty()) return true;
  return lease.in_flight.size() < options_.in_flight_max &&
         lease.load + counted <= options_.load_per_lease;
}

// An idle lease, the one used last first (its worker still looks for work); else the least loaded.
Lease* Dispatcher::choose(Shape& shape, Duration counted) {
  Lease* best = nullptr;
  for (Lease* lease : shape.leases) {
    if (!has_room(*lease, counted)) continue;
    if (best == nullptr) {
      best = lease;
    } else if (lease->in_flight.empty() != best->in_flight.empty()) {
      if (lease->in_flight.empty()) best = lease;
    } else if (lease->in_flight.empty() ? lease->idle_since > best->idle_since
                                        : lease->load < best->load) {
      best = lease;
    }
  }
  return best;
}

void Dispatcher::place(TaskNode& task, Lease& lease, Instant now, Effects& effects) {
  if (lease.in_flight.empty()) lease.head_since = now;
  lease.in_flight.push_back(task);
  lease.load += task.counted;
  ++lease.shape->in_flight;
  ++in_flight_;
  lease.shape->in_flight_load += task.counted;
  task.lease = &lease;
  task.state = TaskState::kInFlight;
  effects.push.push_back({&task, &lease});
}

void Dispatcher::leave_lease(TaskNode& task) {
  MOBULA_CHECK(task.state == TaskState::kInFlight);
  Lease& lease = *task.lease;
  lease.in_flight.remove(task);
  lease.load -= task.counted;
  --lease.shape->in_flight;
  --in_flight_;
  lease.shape->in_flight_load -= task.counted;
  task.lease = nullptr;
  task.state = TaskState::kHeld;
  mark_dirty(*lease.shape);
}

void Dispatcher::on_result(TaskNode& task, Duration run_time, Instant now) {
  Lease& lease = *task.lease;
  leave_lease(task);
  lease.head_since = now;
  lease.overrun = false;
  if (lease.in_flight.empty()) lease.idle_since = now;
  FunctionState& function = *task.function;
  if (function.measured) {
    function.estimate += (run_time - function.estimate) / 8;
  } else {
    function.measured = true;
    function.estimate = run_time;
  }
}

void Dispatcher::on_revoked(TaskNode& task) {
  leave_lease(task);
  enqueue(task, true);
}

void Dispatcher::on_push_failed(TaskNode& task) {
  task.lease->stalled = true;
  on_revoked(task);
}

void Dispatcher::on_lost(TaskNode& task) { leave_lease(task); }

void Dispatcher::on_drained(ChannelId channel) {
  Lease* lease = lease_of(channel);
  if (lease == nullptr || !lease->stalled) return;
  lease->stalled = false;
  mark_dirty(*lease->shape);
}

void Dispatcher::on_blocked(ChannelId channel, bool blocked) {
  Lease* lease = lease_of(channel);
  if (lease == nullptr || lease->blocked == blocked) return;
  lease->blocked = blocked;
  mark_dirty(*lease->shape);
}

void Dispatcher::fill(Shape& shape, Instant now, Effects& effects) {
  while (TaskNode* task = next_queued(shape)) {
    const Duration counted = estimate(*task);
    Lease* lease = choose(shape, counted);
    if (lease == nullptr) return;
    dequeue(shape, *task);
    task->counted = counted;
    place(*task, *lease, now, effects);
  }
}

void Dispatcher::note_overruns(Shape& shape, Instant now) {
  for (Lease* lease : shape.leases) {
    lease->overrun =
        lease->in_flight.size() > 1 && now - lease->head_since >= options_.load_per_lease;
  }
}

// Takes back, newest first; the worker decides the race for each by its claim word.
void Dispatcher::take_back_all(Lease& lease, Effects& effects) {
  for (TaskNode* task = lease.in_flight.back(); task != nullptr; task = task->previous) {
    effects.revoke.push_back(task);
  }
}

void Dispatcher::steal(Shape& shape, Effects& effects) {
  bool idle = false;
  Lease* victim = nullptr;
  for (Lease* lease : shape.leases) {
    if (lease->blocked || lease->reclaimed) {
      if (lease->in_flight.size() > 1) take_back_all(*lease, effects);
      continue;
    }
    if (lease->in_flight.empty()) {
      idle = idle || !lease->stalled;
    } else if (lease->in_flight.size() > 1 &&
               (lease->overrun || lease->load >= options_.steal_load_min) &&
               (victim == nullptr || lease->load > victim->load || lease->overrun)) {
      victim = lease;
    }
  }
  if (!idle || victim == nullptr || shape.queued != 0) return;
  uint64_t take = victim->overrun ? victim->in_flight.size() - 1 : victim->in_flight.size() / 2;
  for (TaskNode* task = victim->in_flight.back(); take > 0; --take, task = task->previous) {
    effects.revoke.push_back(task);
  }
}

uint32_t Dispatcher::wanted(const Shape& shape) const {
  uint64_t blocked = 0;
  uint64_t blocked_tasks = 0;
  uint64_t overrun = 0;
  for (const Lease* lease : shape.leases) {
    if (lease->blocked) {
      ++blocked;
      blocked_tasks += lease->in_flight.size();
    } else if (lease->overrun) {
      ++overrun;
    }
  }
  const uint64_t tasks = shape.queued + shape.in_flight - blocked_tasks;
  const Duration load = shape.queued_load + shape.in_flight_load;
  const auto full = static_cast<uint64_t>((load + options_.load_per_lease - Duration(1)) /
                                          options_.load_per_lease);
  uint64_t useful = std::min<uint64_t>(tasks, std::max<uint64_t>(full, 1) + overrun);
  const uint32_t most = std::min(options_.target_max, shape.leases_max);
  return static_cast<uint32_t>(std::min<uint64_t>(blocked + useful, most));
}

void Dispatcher::tell_target(Shape& shape, Effects& effects) {
  const uint32_t target = wanted(shape);
  const bool more = target > shape.target_told;
  // Demand that has become pointless is withdrawn; leases we have are given back one by one.
  const bool withdraw = shape.target_told > shape.leases.size() && target < shape.target_told &&
                        target <= shape.leases.size();
  if (!more && !withdraw) return;
  shape.target_told = more ? target : static_cast<uint32_t>(shape.leases.size());
  effects.target.push_back({shape.number, shape.target_told});
}

void Dispatcher::give_back(Shape& shape, Instant now, Effects& effects) {
  for (size_t i = 0; i < shape.leases.size();) {
    Lease& lease = *shape.leases[i];
    const bool unused = shape.queued == 0 && now - lease.idle_since >= options_.idle_lease_kept;
    if (!lease.in_flight.empty() || !(lease.reclaimed || unused)) {
      ++i;
      continue;
    }
    const uint32_t target = std::min(wanted(shape), shape.target_told);
    const auto kept = static_cast<uint32_t>(shape.leases.size() - 1);
    // Lower the level first, else the daemon would grant the lease again.
    const uint32_t level = unused ? std::min(target, kept) : target;
    if (level != shape.target_told) {
      shape.target_told = level;
      effects.target.push_back({shape.number, level});
    }
    effects.give_back.push_back(lease.id);
    shape.leases.erase(shape.leases.begin() + static_cast<std::ptrdiff_t>(i));
    leases_.erase(lease.channel);
  }
}

void Dispatcher::settle(Instant now, Effects& effects) {
  // Overruns and idle leases are a matter of time: look at every shape that has leases.
  for (auto& [number, shape] : shapes_) {
    if (!shape->leases.empty()) mark_dirty(*shape);
  }
  std::vector<Shape*> shapes;
  shapes.swap(dirty_);
  for (Shape* shape : shapes) {
    shape->dirty = false;
    note_overruns(*shape, now);
    fill(*shape, now, effects);
    steal(*shape, effects);
    give_back(*shape, now, effects);
    tell_target(*shape, effects);
  }
}

std::optional<Instant> Dispatcher::next_deadline() const {
  std::optional<Instant> next;
  const auto consider = [&next](Instant at) {
    if (!next || at < *next) next = at;
  };
  for (const auto& [channel, lease] : leases_) {
    if (lease->in_flight.empty()) {
      consider(lease->idle_since + options_.idle_lease_kept);
    } else if (lease->in_flight.size() > 1 && !lease->overrun && !lease->blocked) {
      consider(lease->head_since + options_.load_per_lease);
    }
  }
  return next;
}

std::vector<Dispatcher::ShapeCounts> Dispatcher::shape_counts() const {
  std::vector<ShapeCounts> counts;
  counts.reserve(shapes_.size());
  for (const auto& [number, shape] : shapes_) {
    const auto blocked =
        std::ranges::count_if(shape->leases, [](const Lease* lease) { return lease->blocked; });
    counts.push_back({number, shape->queued, shape->in_flight,
                      static_cast<uint32_t>(shape->leases.size()), static_cast<uint32_t>(blocked),
                      shape->target_told});
  }
  return counts;
}

std::vector<Dispatcher::FunctionCounts> Dispatcher::queued_by_function() const {
  std::vector<FunctionCounts> counts;
  for (const auto& [number, shape] : shapes_) {
    for (const auto& [function, queue] : shape->queues) {
      if (!queue->tasks.empty()) counts.push_back({function, queue->tasks.size()});
    }
  }
  return counts;
}

void Dispatcher::check_invariants() const {
  uint64_t queued = 0;
  uint64_t in_flight = 0;
  size_t leases = 0;
  for (const auto& [number, shape] : shapes_) {
    uint64_t in_queues = 0;
    Duration queued_load{0};
    for (const auto& [function, queue] : shape->queues) {
      in_queues += queue->tasks.size();
      MOBULA_CHECK(queue->waiting == !queue->tasks.empty());
      for (const TaskNode* task = queue->tasks.front(); task != nullptr; task = task->next) {
        MOBULA_CHECK(task->state == TaskState::kQueued && task->lease == nullptr);
        queued_load += task->counted;
      }
    }
    MOBULA_CHECK(in_queues == shape->queued);
    MOBULA_CHECK(queued_load == shape->queued_load);
    MOBULA_CHECK((shape->last_turn == nullptr) == (shape->queued == 0));
    uint64_t on_leases = 0;
    for (const Lease* lease : shape->leases) {
      Duration load{0};
      for (const TaskNode* task = lease->in_flight.front(); task != nullptr; task = task->next) {
        MOBULA_CHECK(task->state == TaskState::kInFlight && task->lease == lease);
        load += task->counted;
      }
      MOBULA_CHECK(load == lease->load);
      MOBULA_CHECK(lease->in_flight.size() <= options_.in_flight_max);
      on_leases += lease->in_flight.size();
    }
    MOBULA_CHECK(on_leases == shape->in_flight);
    queued += shape->queued;
    in_flight += shape->in_flight;
    leases += shape->leases.size();
  }
  MOBULA_CHECK(queued == queued_ && in_flight == in_flight_ && leases == leases_.size());
}

}  // namespace mobula::tasks
