// RuntimeImpl: telling of objects that have become ready, for futures and event loops.

#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

// For a thread that holds no interpreter's lock.
class NoGate final : public Gate {
 public:
  void release() override {}
  void acquire() override {}
  bool interrupted() override { return false; }
};

}  // namespace

void RuntimeImpl::notify(Object* object, uint64_t token) {
  Locked lock(*this);
  if (object->is_ready() || !disconnected_.empty()) {
    notifications_.ready.push_back(token);
    notifications_.news.notify_one();
    return;
  }
  object->retain();
  auto* node = new WaitNode{object, &notifications_.waiter, nullptr, object->waiters, token};
  if (node->next != nullptr) node->next->previous = node;
  object->waiters = node;
  ++notifications_.pending;
  request_values({&object, 1});
  notifications_.news.notify_one();
  wake_reader_thread();
  // Whoever reads for all may sleep for longer than this object takes.
  deferred().bells.push_back({bell_, shm::kOwnBellBit, true});
}

// The object is ready. Nodes of notify() end here, those of wait() belong to their threads.
void RuntimeImpl::tell_waiters(Object& object) {
  WaitNode* next = nullptr;
  for (WaitNode* node = object.waiters; node != nullptr; node = next) {
    next = node->next;
    if (node->token != 0) {
      notifications_.ready.push_back(node->token);
      --notifications_.pending;
      if (next != nullptr) next->previous = node->previous;
      (node->previous != nullptr ? node->previous->next : object.waiters) = next;
      delete node;
      notifications_.objects.push_back(&object);
      if (notifications_.waits) satisfy(notifications_.waiter);
    } else {
      Waiter& waiter = *node->waiter;
      if (waiter.ends_at_error && wire::is_error(object.value.kind())) waiter.remaining = 1;
      satisfy(waiter);
    }
  }
}

bool RuntimeImpl::next_notified(std::vector<uint64_t>& tokens) {
  tokens.clear();
  {
    // With nothing to wait for, this thread must not read for all.
    std::unique_lock<std::mutex> wait(lock_);
    notifications_.news.wait(wait, [this] {
      return !notifications_.ready.empty() || notifications_.pending != 0 || !disconnected_.empty();
    });
  }
  Locked lock(*this);
  if (notifications_.ready.empty() && disconnected_.empty()) {
    notifications_.waiter.remaining = 1;
    notifications_.waiter.wants_first = true;
    notifications_.waiter.for_notified = true;
    notifications_.waits = true;
    NoGate no_gate;
    wait_for(notifications_.waiter, std::nullopt, no_gate, lock, get_credit_);
    notifications_.waits = false;
  }
  tokens.swap(notifications_.ready);
  for (Object* object : std::exchange(notifications_.objects, {})) release(object);
  return !tokens.empty() || disconnected_.empty();
}

}  // namespace mobula::process
