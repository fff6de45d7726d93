// RuntimeImpl: telling of objects that have become ready, for futures and event loops.

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

// How long one object may be looked for, and what a look in vain costs the next ones.
constexpr Duration kLookBrieflyMax = std::chrono::microseconds(50);
constexpr int64_t kLookAgainAfter = 2;

// For a thread that holds no interpreter's lock.
class NoGate final : public Gate {
 public:
  void release() override {}
  void acquire() override {}
  bool interrupted() override { return false; }
};

}  // namespace

void RuntimeImpl::notify(Object* object, uint64_t token, uint32_t queue) {
  Locked lock(*this);
  pump();
  if (object == nullptr || object->is_ready() || !disconnected_.empty()) {
    tell(queue, token);
    return;
  }
  object->retain();
  auto* node = new WaitNode{object, &notifications_.waiter, nullptr, object->waiters, token, queue};
  if (node->next != nullptr) node->next->previous = node;
  object->waiters = node;
  if (++notifications_.pending == 1) notifications_.news.notify_one();
  request_values({&object, 1});
  wake_reader_thread();
  // Whoever reads for all may sleep for longer than this object takes.
  poke_reader();
}

// With the lock.
void RuntimeImpl::tell(uint32_t queue, uint64_t token) {
  if (queue != 0) {
    LoopQueues::Event event = notifications_.loops.add(queue, token);
    if (event != nullptr) deferred().events.push_back(std::move(event));
  } else {
    notifications_.ready.push_back(token);
    notifications_.news.notify_one();
  }
  if (notifications_.waits && satisfied(notifications_.waiter)) satisfy(notifications_.waiter);
}

// The object is ready. Nodes of notify() end here, those of wait() belong to their threads.
void RuntimeImpl::tell_waiters(Object& object) {
  WaitNode* next = nullptr;
  for (WaitNode* node = object.waiters; node != nullptr; node = next) {
    next = node->next;
    if (node->token != 0) {
      --notifications_.pending;
      tell(node->queue, node->token);
      if (next != nullptr) next->previous = node->previous;
      (node->previous != nullptr ? node->previous->next : object.waiters) = next;
      delete node;
      drop(&object);
    } else {
      Waiter& waiter = *node->waiter;
      if (waiter.ends_at_error && wire::is_error(object.value.kind())) waiter.remaining = 1;
      satisfy(waiter);
    }
  }
}

bool RuntimeImpl::next_notified(std::vector<uint64_t>& tokens, Deadline deadline) {
  tokens.clear();
  Notifications& all = notifications_;
  bool late = false;
  while (true) {
    {
      // With nothing to wait for, this thread must not read for all.
      std::unique_lock<std::mutex> wait(lock_);
      const auto has_something = [&] {
        return !all.ready.empty() || all.pending != 0 || !disconnected_.empty();
      };
      if (!deadline) {
        all.news.wait(wait, has_something);
      } else {
        late = !all.news.wait_for(wait, *deadline - monotonic_now(), has_something);
      }
    }
    Locked lock(*this);
    if (!late && all.ready.empty() && all.pending != 0 && disconnected_.empty()) {
      all.waiter.remaining = 1;
      all.waiter.wants_first = true;
      all.waiter.for_notified = true;
      all.waits = true;
      NoGate no_gate;
      late = wait_for(all.waiter, deadline, no_gate, lock, get_credit_) == Waited::kTimeout;
      all.waits = false;
    }
    tokens.swap(all.ready);
    if (!disconnected_.empty()) return !tokens.empty();
    if (late || !tokens.empty()) return true;
    // It was for the loops alone.
  }
}

LoopQueues& RuntimeImpl::loop_queues() { return notifications_.loops; }

// Without a gate: reads what has come, no more.
bool RuntimeImpl::look_briefly(const Object& object, Gate* gate) {
  if (gate == nullptr && !shm::has_news(*bell_)) return false;
  Locked lock(*this);
  ++waits_;
  pump();
  if (object.is_ready()) return true;
  if (gate == nullptr || !disconnected_.empty()) return false;
  Waiter waiter;
  waiter.remaining = 1;
  HeldLook held{.until = monotonic_now() + kLookBrieflyMax};
  while (look_held(waiter, held, lock)) {
    pump();
    if (object.is_ready()) break;
  }
  leave_reading(waiter);
  if (object.is_ready()) return true;
  if (held.over || reader_ != nullptr) return false;
  int64_t& credit = brief_credit_.microseconds;
  if (credit < 0) {
    credit += kLookAgainAfter;
    return false;
  }
  const Instant end = monotonic_now() + kLookBrieflyMax;
  bool released = false;
  while (!object.is_ready() && monotonic_now() < end) {
    lock.unlock();
    const bool news = look_for_news(brief_credit_, *gate, released);
    lock.lock();
    if (!news) break;
    pump();
  }
  lock.unlock();
  if (released) gate->acquire();
  return object.is_ready();
}

}  // namespace mobula::process
