#include "python/unhandled.h"

#include <vector>

#include "python/decode.h"
#include "python/serialization_module.h"

namespace mobula::python {

UnhandledTeller::UnhandledTeller()
    : errors_(std::make_shared<process::UnhandledErrors>(
          [this] { thread_ = std::thread([this] { run(); }); })) {}

void UnhandledTeller::end() {
  if (session_ != nullptr) {
    // What was dropped a moment ago counts: looking for news settles that.
    PythonGate gate;
    session_->runtime->wait({}, 0, monotonic_now(), gate);
  }
  errors_->close();
  if (!thread_.joinable() || thread_.get_id() == std::this_thread::get_id()) return;
  const WithoutGil it_may_go_on;
  thread_.join();
}

void UnhandledTeller::run() {
  std::vector<process::Object*> objects;
  uint64_t not_kept = 0;
  while (errors_->next(objects, not_kept)) {
    const PyGILState_STATE state = PyGILState_Ensure();
    tell(objects, not_kept);
    PyGILState_Release(state);
  }
}

void UnhandledTeller::tell(std::span<process::Object* const> objects, uint64_t not_kept) {
  const Owned list(PyList_New(0));
  for (process::Object* object : objects) {
    const Owned value(decode_object(*session_, object));
    const Owned error = take_exception();
    if (error && list && PyList_Append(list.get(), error.get()) != 0) PyErr_Clear();
    session_->runtime->drop(object);
  }
  const Owned told(call_hook("unhandled_errors",
                             Owned(Py_BuildValue("(OK)", list ? list.get() : Py_None,
                                                 static_cast<unsigned long long>(not_kept)))));
  if (!told) PyErr_Clear();
}

}  // namespace mobula::python
