#pragma once
// TaskNode and TaskList: a task as the dispatcher sees it, and a doubly linked list of them.
//
// Nodes are owned by whoever submits them and are in at most one list at a time. The list does not
// allocate: a million queued tasks cost their own memory only.
//
// Threads: none.

#include <cstdint>

#include "base/check.h"
#include "base/ids.h"
#include "base/time.h"

namespace mobula::tasks {

struct Lease;
struct FunctionQueue;

// What is known of one function of this owner.
struct FunctionState {
  Duration estimate{0};  // Moving average of its run time; valid if `measured`.
  bool measured = false;
};

enum class TaskState : uint8_t {
  kHeld,  // Not given to the dispatcher (arguments pending), or done with.
  kQueued,
  kInFlight,  // In a worker's ring, or running there.
};

struct TaskNode {
  FunctionState* function = nullptr;
  Lease* lease = nullptr;  // Valid in kInFlight.
  TaskNode* previous = nullptr;
  TaskNode* next = nullptr;
  Duration counted{0};  // What it adds to its queue's or lease's load.
  uint32_t shape = 0;
  TaskState state = TaskState::kHeld;
};

class TaskList {
 public:
  bool empty() const { return head_ == nullptr; }
  uint64_t size() const { return size_; }
  TaskNode* front() const { return head_; }
  TaskNode* back() const { return tail_; }

  void push_back(TaskNode& node) {
    node.previous = tail_;
    node.next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = &node;
    tail_ = &node;
    ++size_;
  }
  void push_front(TaskNode& node) {
    node.next = head_;
    node.previous = nullptr;
    (head_ != nullptr ? head_->previous : tail_) = &node;
    head_ = &node;
    ++size_;
  }
  void remove(TaskNode& node) {
    MOBULA_CHECK(size_ > 0);
    (node.previous != nullptr ? node.previous->next : head_) = node.next;
    (node.next != nullptr ? node.next->previous : tail_) = node.previous;
    node.previous = node.next = nullptr;
    --size_;
  }

 private:
  TaskNode* head_ = nullptr;
  TaskNode* tail_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace mobula::tasks
