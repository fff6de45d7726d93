#include "python/objects.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "python/decode.h"
#include "python/encode.h"
#include "python/object_ref.h"
#include "python/serialization_module.h"

namespace mobula::python {

namespace {

using process::Object;
using process::Waited;

// A get of many has the next ones read back from disk, if they are there, every so many values.
constexpr size_t kPrefetchEvery = 8;
// Timeouts longer than this are none. Seconds.
constexpr double kTimeoutMax = 1e9;

using Deadline = std::optional<Instant>;

PyObject* get_one(Session& session, RefObject* ref, PyObject* timeout) {
  if (!check_session(ref, session)) return nullptr;
  Deadline deadline;
  if (!read_timeout(timeout, deadline)) return nullptr;
  if (!ref->object->is_ready()) {
    PythonGate gate;
    const Waited waited = session.runtime->wait({&ref->object, 1}, 1, deadline, gate);
    if (waited == Waited::kInterrupted) return nullptr;
    if (waited == Waited::kTimeout) return raise_get_timeout();
  }
  return decode_object(session, ref->object, deadline);
}

bool any_error(std::span<Object* const> objects) {
  return std::any_of(objects.begin(), objects.end(), [](const Object* object) {
    return object->is_ready() && wire::is_error(object->value.kind());
  });
}

// Until all are ready, or one is an error. False with an exception set.
bool wait_for_all(Session& session, std::span<Object* const> objects, const Deadline& deadline) {
  PythonGate gate;
  switch (session.runtime->wait(objects, process::kAllOrAnError, deadline, gate)) {
    case Waited::kEnough:
      return true;
    case Waited::kTimeout:
      return raise_get_timeout() != nullptr;
    case Waited::kInterrupted:
      break;
  }
  return false;
}

// The objects of a list's refs. False with an exception set.
bool read_refs(Session& session, PyObject* tuple, std::vector<Object*>& objects) {
  const Py_ssize_t count = PyTuple_GET_SIZE(tuple);
  objects.reserve(static_cast<size_t>(count));
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(tuple, i);
    if (!is_ref(item)) {
      PyErr_Format(PyExc_TypeError,
                   "Attempting to call `get` on the value %R, which is not an ray.ObjectRef.",
                   item);
      return false;
    }
    if (!check_session(as_ref(item), session)) return false;
    objects.push_back(as_ref(item)->object);
  }
  return true;
}

PyObject* get_list(Session& session, PyObject* list, PyObject* timeout) {
  // The refs are held by a tuple of our own: the list can change while we wait and decode.
  const Owned tuple(PyList_AsTuple(list));
  if (!tuple) return nullptr;
  std::vector<Object*> objects;
  if (!read_refs(session, tuple.get(), objects)) return nullptr;
  const auto is_ready = [](const Object* object) { return object->is_ready(); };
  const bool all_ready = std::all_of(objects.begin(), objects.end(), is_ready);
  Deadline deadline;
  if (!read_timeout(timeout, deadline)) return nullptr;
  if (!all_ready) {
    if (!wait_for_all(session, objects, deadline)) return nullptr;
  }
  Owned values(PyList_New(static_cast<Py_ssize_t>(objects.size())));
  if (!values) return nullptr;
  const bool any_stored =
      objects.size() > 1 && std::any_of(objects.begin(), objects.end(), [](const Object* object) {
        return object->is_ready() && object->value.kind() == wire::ValueKind::kInStore;
      });
  for (size_t i = 0; i < objects.size(); ++i) {
    if (any_stored && i % kPrefetchEvery == 0) {
      session.runtime->prefetch(std::span(objects).subspan(i));
    }
    if (!all_ready && !objects[i]->is_ready()) {
      // There is an error further on, which is the result of all this.
      const auto error = std::find_if(objects.begin(), objects.end(), [&](Object* object) {
        return any_error({&object, 1});
      });
      if (error != objects.end()) {
        Owned unexpected(decode_object(session, *error));
        return nullptr;
      }
    }
    PyObject* value = decode_object(session, objects[i], deadline);
    if (value == nullptr) return nullptr;
    PyList_SET_ITEM(values.get(), static_cast<Py_ssize_t>(i), value);
  }
  return values.release();
}

// Keyword argument `name` of a vectorcall, or nullptr.
PyObject* keyword(PyObject* const* arguments, Py_ssize_t count, PyObject* names, const char* name) {
  const Py_ssize_t name_count = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < name_count; ++i) {
    if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), name) == 0) {
      return arguments[count + i];
    }
  }
  return nullptr;
}

// False with TypeError if a keyword is none of `known`.
bool check_keywords(PyObject* names, std::initializer_list<const char*> known,
                    const char* function) {
  const Py_ssize_t name_count = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t i = 0; i < name_count; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    const bool is_known = std::any_of(known.begin(), known.end(), [&](const char* candidate) {
      return PyUnicode_CompareWithASCIIString(name, candidate) == 0;
    });
    if (!is_known) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", function, name);
      return false;
    }
  }
  return true;
}

// The first argument, by position or by name; nullptr with TypeError.
PyObject* only_positional(PyObject* const* arguments, Py_ssize_t count, PyObject* names,
                          const char* function, const char* name) {
  PyObject* by_name = keyword(arguments, count, names, name);
  if (count == 1 && by_name == nullptr) return arguments[0];
  if (count == 0 && by_name != nullptr) return by_name;
  PyErr_Format(PyExc_TypeError, "%s() takes one positional argument, '%s'; it was given %zd",
               function, name, count + (by_name != nullptr ? 1 : 0));
  return nullptr;
}

// What a session is required for: the first of a list, or what it is itself.
PyObject* first_of(PyObject* refs) {
  return PyList_Check(refs) && PyList_GET_SIZE(refs) > 0 ? PyList_GET_ITEM(refs, 0) : refs;
}

struct WaitCall {
  Py_ssize_t num_returns = 1;
  Deadline deadline;
};

PyObject* split_ready(PyObject* tuple, const std::vector<Object*>& objects, Py_ssize_t most) {
  // An object may become ready between two looks: look once.
  std::vector<bool> counts(objects.size());
  Py_ssize_t ready_count = 0;
  for (size_t i = 0; i < objects.size() && ready_count < most; ++i) {
    counts[i] = objects[i]->is_ready();
    if (!counts[i]) continue;
    ++ready_count;
    objects[i]->note_seen();
  }
  const Owned ready(PyList_New(ready_count));
  const Owned rest(PyList_New(static_cast<Py_ssize_t>(objects.size()) - ready_count));
  if (!ready || !rest) return nullptr;
  Py_ssize_t ready_at = 0;
  Py_ssize_t rest_at = 0;
  for (size_t i = 0; i < objects.size(); ++i) {
    PyObject* item = Py_NewRef(PyTuple_GET_ITEM(tuple, static_cast<Py_ssize_t>(i)));
    if (counts[i]) {
      PyList_SET_ITEM(ready.get(), ready_at++, item);
    } else {
      PyList_SET_ITEM(rest.get(), rest_at++, item);
    }
  }
  return PyTuple_Pack(2, ready.get(), rest.get());
}

// An ObjectRefGenerator, which is a class of Python's.
bool is_generator(PyObject* value) {
  return PyObject_HasAttrString(reinterpret_cast<PyObject*>(Py_TYPE(value)), "_next_ready") != 0;
}

constexpr const char* kWantsRefs =
    "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator";

bool check_wait_list(PyObject* list) {
  if (is_ref(list)) {
    PyErr_Format(PyExc_TypeError, "%s, got a single ray.ObjectRef %R", kWantsRefs, list);
    return false;
  }
  if (!PyList_Check(list)) {
    PyErr_Format(PyExc_TypeError, "%s, got %R", kWantsRefs, Py_TYPE(list));
    return false;
  }
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); ++i) {
    PyObject* item = PyList_GET_ITEM(list, i);
    if (!is_ref(item) && !is_generator(item)) {
      PyErr_Format(PyExc_TypeError, "%s, got list containing %R", kWantsRefs, Py_TYPE(item));
      return false;
    }
  }
  return true;
}

// The refs to wait for: those of the list, and for a generator one that is ready when its next item
// is. nullptr with an exception set.
PyObject* awaited_refs(PyObject* waitables) {
  const Py_ssize_t count = PyTuple_GET_SIZE(waitables);
  Py_ssize_t at = 0;
  while (at < count && is_ref(PyTuple_GET_ITEM(waitables, at))) ++at;
  if (at == count) return Py_NewRef(waitables);
  Owned refs(PyTuple_New(count));
  for (Py_ssize_t i = 0; refs && i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(waitables, i);
    PyObject* ref =
        is_ref(item) ? Py_NewRef(item) : PyObject_CallMethod(item, "_next_ready", nullptr);
    if (ref == nullptr) return nullptr;
    PyTuple_SET_ITEM(refs.get(), i, ref);
  }
  return refs.release();
}

bool are_distinct(std::vector<Object*> objects) {
  // Usually they stand in the order in which they were made.
  const auto in_order = [](const Object* one, const Object* next) { return one->id < next->id; };
  const auto not_later = [&](const Object* one, const Object* next) {
    return !in_order(one, next);
  };
  if (std::ranges::adjacent_find(objects, not_later) == objects.end()) return true;
  std::sort(objects.begin(), objects.end());
  return std::adjacent_find(objects.begin(), objects.end()) == objects.end();
}

bool read_wait_call(PyObject* const* arguments, Py_ssize_t count, PyObject* names, WaitCall& call) {
  if (!check_keywords(names,
                      {"ray_waitables", "object_refs", "num_returns", "timeout", "fetch_local"},
                      "wait")) {
    return false;
  }
  PyObject* num_returns = keyword(arguments, count, names, "num_returns");
  if (num_returns != nullptr) {
    call.num_returns = PyNumber_AsSsize_t(num_returns, PyExc_ValueError);
    if (call.num_returns == -1 && PyErr_Occurred()) return false;
  }
  return read_timeout(keyword(arguments, count, names, "timeout"), call.deadline);
}

}  // namespace

bool read_timeout(PyObject* timeout, std::optional<Instant>& deadline) {
  if (timeout == nullptr || timeout == Py_None) return true;
  const double seconds = PyFloat_AsDouble(timeout);
  if (seconds == -1.0 && PyErr_Occurred()) return false;
  if (!(seconds >= 0)) {
    PyErr_Format(PyExc_ValueError, "The 'timeout' argument must be nonnegative. Received %R",
                 timeout);
    return false;
  }
  if (seconds < kTimeoutMax) {
    deadline = monotonic_now() +
               std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  }
  return true;
}

PyObject* raise_get_timeout() {
  return raise_from_hook("timeout_error",
                         Owned(Py_BuildValue("(s)", "Get timed out: some object(s) not ready.")));
}

PyObject* get(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
  PyObject* what = nullptr;
  PyObject* timeout = nullptr;
  if (count == 1 && names == nullptr) {
    what = arguments[0];
  } else {
    if (!check_keywords(names, {"object_refs", "timeout"}, "get")) return nullptr;
    what = only_positional(arguments, count, names, "get", "object_refs");
    if (what == nullptr) return nullptr;
    timeout = keyword(arguments, count, names, "timeout");
    Deadline checked;
    if (!read_timeout(timeout, checked)) return nullptr;
  }
  Session* open = require_session_of(first_of(what));
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  if (is_ref(what)) return get_one(*open, as_ref(what), timeout);
  if (PyList_Check(what)) return get_list(*open, what, timeout);
  if (is_generator(what)) return Py_NewRef(what);  // Its refs are for getting, one by one.
  PyErr_Format(PyExc_ValueError,
               "Invalid type of object refs, %R, is given. 'object_refs' must either be an "
               "ObjectRef or a list of ObjectRefs.",
               Py_TYPE(what));
  return nullptr;
}

PyObject* put(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
  if (!check_keywords(names, {"value", "_owner", "_tensor_transport"}, "put")) return nullptr;
  PyObject* value = only_positional(arguments, count, names, "put", "value");
  if (value == nullptr) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  if (is_ref(value)) {
    PyErr_SetString(
        PyExc_TypeError,
        "Calling 'put' on an ray.ObjectRef is not allowed. If you really want to do this, "
        "you can wrap the ray.ObjectRef in a list and call 'put' on it.");
    return nullptr;
  }
  const SessionUse use(open);
  Object* object = put_value(*open, value);
  if (object != nullptr) {
    note_call_site(*open, {&object, 1}, "put object");
    return make_ref(*open, object);
  }
  explain_serialization("put value", value, Py_None, Py_None);
  return nullptr;
}

PyObject* put_error(PyObject*, PyObject* arguments) {
  PyObject* error;
  PyObject* name;
  if (!PyArg_ParseTuple(arguments, "OU", &error, &name)) return nullptr;
  Session* open = require_session();
  if (open == nullptr || !load_serialization_module()) return nullptr;
  const SessionUse use(open);
  for (PyObject* with_cause : {Py_True, Py_False}) {
    Encoder encoder(*open);
    const Owned description(PyObject_CallFunction(serialization_module().encode_failure, "OOO",
                                                  error, name, with_cause));
    if (description && encoder.add_task_error(description.get())) {
      return make_ref(*open, open->runtime->put(encoder.take()));
    }
    if (with_cause == Py_True) PyErr_Clear();
  }
  return nullptr;
}

PyObject* wait(PyObject*, PyObject* const* arguments, Py_ssize_t count, PyObject* names) {
  WaitCall call;
  if (!read_wait_call(arguments, count, names, call)) return nullptr;
  const bool old_name = keyword(arguments, count, names, "object_refs") != nullptr;
  PyObject* list =
      only_positional(arguments, count, names, "wait", old_name ? "object_refs" : "ray_waitables");
  if (list == nullptr || !check_wait_list(list)) return nullptr;
  Session* open = require_session_of(first_of(list));
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const Owned tuple(PyList_AsTuple(list));
  if (!tuple) return nullptr;
  const Owned refs(awaited_refs(tuple.get()));
  std::vector<Object*> objects;
  if (!refs || !read_refs(*open, refs.get(), objects)) return nullptr;
  if (objects.empty()) return split_ready(tuple.get(), objects, 0);
  if (!are_distinct(objects)) {
    PyErr_SetString(PyExc_ValueError, "Wait requires a list of unique ray_waitables.");
    return nullptr;
  }
  if (call.num_returns <= 0) {
    return PyErr_Format(PyExc_ValueError, "Invalid number of objects to return %zd.",
                        call.num_returns);
  }
  if (call.num_returns > static_cast<Py_ssize_t>(objects.size())) {
    PyErr_SetString(PyExc_ValueError,
                    "num_returns cannot be greater than the number of ray_waitables provided to "
                    "ray.wait.");
    return nullptr;
  }
  PythonGate gate;
  const Waited waited = use.runtime().wait(
      objects, static_cast<size_t>(call.num_returns) | process::kOfWait, call.deadline, gate);
  if (waited == Waited::kInterrupted) return nullptr;
  return split_ready(tuple.get(), objects, call.num_returns);
}

PyObject* cancel(PyObject*, PyObject* arguments) {
  PyObject* ref;
  int force;
  int recursive;
  int only_waiting = 0;
  if (!PyArg_ParseTuple(arguments, "O!pp|p", &ref_type, &ref, &force, &recursive, &only_waiting)) {
    return nullptr;
  }
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  if (force != 0 && use.runtime().is_pending_call(*as_ref(ref)->object)) {
    PyErr_SetString(PyExc_ValueError, "force=True is not supported for actor tasks.");
    return nullptr;
  }
  const process::Cancel how{
      .force = force != 0, .recursive = recursive != 0, .only_waiting = only_waiting != 0};
  return PyBool_FromLong(use.runtime().cancel(as_ref(ref)->object, how));
}

PyObject* notify(PyObject*, PyObject* arguments) {
  PyObject* ref;
  unsigned long long token;
  unsigned queue = 0;
  if (!PyArg_ParseTuple(arguments, "O!K|I", &ref_type, &ref, &token, &queue)) return nullptr;
  if (token == 0) {
    PyErr_SetString(PyExc_ValueError, "a token is not 0");
    return nullptr;
  }
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  use.runtime().notify(as_ref(ref)->object, token, queue);
  Py_RETURN_NONE;
}

PyObject* can_cancel(PyObject*, PyObject* ref) {
  if (!is_ref(ref)) return PyErr_Format(PyExc_TypeError, "%R is not an ObjectRef", ref);
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  return PyBool_FromLong(use.runtime().cancel(as_ref(ref)->object, {.only_ask = true}));
}

PyObject* is_call_of(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  if (count != 2 || !is_ref(arguments[0]) || !is_ref(arguments[1])) {
    PyErr_SetString(PyExc_TypeError, "is_call_of() takes two refs");
    return nullptr;
  }
  PyObject* ref = arguments[0];
  PyObject* actor = arguments[1];
  Session* open = require_session_of(ref);
  if (open == nullptr || !check_session(as_ref(actor), *open)) return nullptr;
  const SessionUse use(open);
  const Object& object = *as_ref(ref)->object;
  return PyBool_FromLong(object.is_ready() ||
                         use.runtime().is_pending_call(object, as_ref(actor)->object) ||
                         object.is_ready());  // Since.
}

PyObject* look_briefly(PyObject*, PyObject* ref) {
  if (!is_ref(ref)) return PyErr_Format(PyExc_TypeError, "%R is not an ObjectRef", ref);
  if (as_ref(ref)->object->is_ready()) Py_RETURN_TRUE;
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  PythonGate gate;
  return PyBool_FromLong(SessionUse(open).runtime().look_briefly(*as_ref(ref)->object, &gate));
}

PyObject* has_value(PyObject*, PyObject* arguments) {
  unsigned node;
  unsigned creator;
  unsigned long long index;
  if (!PyArg_ParseTuple(arguments, "IIK", &node, &creator, &index)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  PythonGate gate;
  const auto found = use.runtime().has_value({NodeId{node}, ProcessId{creator}, index}, gate);
  if (!found.has_value()) return raise_error(found.error());
  return PyBool_FromLong(*found);
}

PyObject* location(PyObject*, PyObject* ref) {
  if (!is_ref(ref)) return PyErr_Format(PyExc_TypeError, "%R is not an ObjectRef", ref);
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  const auto at = SessionUse(open).runtime().location(*as_ref(ref)->object);
  if (!at) Py_RETURN_NONE;
  return Py_BuildValue("(IIIKK)", number(at->segment), at->entry, at->generation,
                       static_cast<unsigned long long>(at->offset),
                       static_cast<unsigned long long>(at->size));
}

PyObject* is_ready(PyObject*, PyObject* ref) {
  if (!is_ref(ref)) return PyErr_Format(PyExc_TypeError, "%R is not an ObjectRef", ref);
  Session* open = require_session_of(ref);
  if (open == nullptr) return nullptr;
  return PyBool_FromLong(as_ref(ref)->object->is_ready());
}

}  // namespace mobula::python
