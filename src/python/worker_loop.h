#pragma once
// Worker: how a worker process turns the tasks that it has started into calls of Python functions, and
// what those return, or raise, into results. run_worker() executes one after the other; an actor with
// several threads or an event loop uses the parts (actor_call.h).
//
// Threads: with the GIL only.

#include <array>
#include <cstddef>
#include <string>
#include <unordered_map>
#include <vector>

#include "python/encode.h"
#include "python/leftovers.h"
#include "python/owned.h"
#include "python/session.h"

namespace mobula::python {

// What ReceivedFunction::decoded points to. Kept as long as the process, like the functions.
struct DecodedFunction {
  Owned callable;
  Owned name;
  bool at_once = false;       // Of an actor with event loops: see Worker::is_at_once.
  std::string keyword_bytes;  // Of the last call, and the tuple made from them.
  Owned keyword_names;
};

// The arguments of one call, in the order of vectorcall.
class Arguments {
 public:
  ~Arguments() { clear(); }
  // Arguments of a failed or finished call go before its results are published.
  void clear() {
    for (size_t i = 0; i < size_; ++i) Py_CLEAR(data()[i]);
    size_ = 0;
  }
  void reserve(size_t count) {
    if (count > kFew) many_.resize(count);
  }
  void add(PyObject* value) { data()[size_++] = value; }
  PyObject** data() { return many_.empty() ? few_.data() : many_.data(); }
  size_t size() const { return size_; }

 private:
  static constexpr size_t kFew = 8;
  std::array<PyObject*, kFew> few_;
  std::vector<PyObject*> many_;
  size_t size_ = 0;
};

// One worker's loop and what it remembers.
class Worker {
 public:
  Worker(Session& session, PyObject* on_lease, Leftovers& leftovers)
      : session_(session), on_lease_(on_lease), leftovers_(leftovers) {}

  // True: the daemon ended this worker. False: an exception is set that ends it.
  bool run();
  // The same for the calls of one concurrency group of an actor.
  bool run_calls(uint32_t group);

  // Of a method that may be called before its asyncio task is made, and needs none if it returns at once:
  // it has the attribute __mobula_at_once__.
  bool is_at_once(process::ReceivedFunction& function);
  // Calls the method. What it returns, if that is to be awaited, or None: then the call is over.
  // nullptr with an exception set that ends this process.
  PyObject* begin(process::ClaimedTask& task);
  // What an awaited call has returned; nullptr: an exception is set. False: it ends this process.
  bool end(process::ClaimedTask& task, Owned result);
  // One item of a generator. False with an exception set.
  bool send_item(process::ClaimedTask& task, Owned item, process::Waited& sent);
  // The exception that is set becomes the last item, or the result.
  bool end_items(process::ClaimedTask& task, bool failed);

 private:
  // False with an exception set that ends this process.
  bool execute(process::ClaimedTask& task, process::TaskOutcome& outcome);
  bool become_actor(bool& stays);
  DecodedFunction* decode_method(process::ReceivedFunction& function);
  bool start_lease(const process::LeaseInfo& lease);
  DecodedFunction* decode_function(process::ReceivedFunction& function);
  PyObject* call(const process::ClaimedTask& task);
  bool decode_arguments(const process::ClaimedTask& task, DecodedFunction& function,
                        Arguments& arguments, PyObject*& names);
  bool send_items(process::ClaimedTask& task, Owned generator);
  bool send_error_item(process::ClaimedTask& task);
  bool encode_items(process::ClaimedTask& task, PyObject* generator, Encoder& encoder);
  bool encode_result(process::ClaimedTask& task, Owned result, Encoder& encoder);
  bool encode_results(process::ClaimedTask& task, Owned result, Encoder& encoder);
  bool fail_task(process::ClaimedTask& task, Encoder& encoder);
  bool is_past_time_limit(const process::ClaimedTask& task) const {
    return task.time_limit_ms != 0 && session_.runtime->is_past_time_limit();
  }

  Session& session_;
  PyObject* on_lease_;
  Leftovers& leftovers_;
  const process::ReceivedFunction* shown_ =
      nullptr;  // In the process's title; null: that it is idle.
  // By the bytes of a function without refs: callers that have it from one another send the same.
  std::unordered_map<std::string, DecodedFunction*> by_bytes_;
};

// While run_worker() runs.
extern Worker* the_worker;

}  // namespace mobula::python
