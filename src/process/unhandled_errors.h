#pragma once
// UnhandledErrors: the errors of tasks whose last ref was dropped before anybody had looked at them, on
// their way to a binding that tells of them.
//
// Nothing happens here until the first error: then `begin` is called, once, and is to have somebody call
// next() in a loop.
//
// Threads: any; `begin` is called with the runtime's lock held.
// Limits: so many wait at a time; of others only the number is told.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "process/object.h"

namespace mobula::process {

class UnhandledErrors {
 public:
  static constexpr size_t kWaitingMax = 100;

  explicit UnhandledErrors(std::function<void()> begin) : begin_(std::move(begin)) {}

  // Of an object without counts. True: it has one now, which is ours. False: it is not wanted.
  bool add(Object& object);
  // Waits for more. Whoever takes them drops their counts. False: closed, and all were handed out.
  bool next(std::vector<Object*>& objects, uint64_t& not_kept);
  // From now on nothing is taken.
  void close();

 private:
  const std::function<void()> begin_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool begun_ = false;
  bool closed_ = false;
  uint64_t not_kept_ = 0;
  std::vector<Object*> waiting_;
};

// Of what a task came to: an error that the user should hear of, if nobody looks at it.
bool is_worth_telling(const Object& object);

}  // namespace mobula::process
