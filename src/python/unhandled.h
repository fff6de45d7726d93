#pragma once
// UnhandledTeller: tells of the errors of tasks that nobody has looked at (process/unhandled_errors.h).
//
// What is told, and where, is for the hook `unhandled_errors` (Python) to decide.
//
// Threads: one of its own, from the first error on until end(). The other functions: with the GIL.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "process/unhandled_errors.h"
#include "python/session.h"

namespace mobula::python {

class UnhandledTeller {
 public:
  UnhandledTeller();
  const std::shared_ptr<process::UnhandledErrors>& errors() const { return errors_; }
  // The session is made, and stays until end().
  void begin(Session& session) { session_ = &session; }
  // Returns once all that has come is told.
  void end();

 private:
  void run();
  void tell(std::span<process::Object* const> objects, uint64_t not_kept);

  std::shared_ptr<process::UnhandledErrors> errors_;
  Session* session_ = nullptr;  // Guarded by the GIL.
  std::thread thread_;
};

}  // namespace mobula::python
