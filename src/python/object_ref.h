#pragma once
// ObjectRef: the Python type for a process::Object, written on the C API because one is made for
// every task. It holds one count of its object.
//
// A ref keeps its id and the number of its session, so that hashing, comparing and printing work,
// and dropping does nothing, when the session has ended or in a forked child.
//
// Threads: with the GIL only. Deallocation may happen anywhere, garbage collections included.

#include "process/object.h"
#include "python/owned.h"
#include "python/session.h"

namespace mobula::python {

struct RefObject {
  PyObject_HEAD ObjectId id;
  process::Object* object;  // Valid while the session lasts.
  uint64_t session;
  uint32_t return_index;  // Which return of its task, as far as this process knows.
  PyObject* weak_refs;
};

extern PyTypeObject ref_type;

inline bool is_ref(PyObject* value) { return Py_IS_TYPE(value, &ref_type); }
inline RefObject* as_ref(PyObject* value) { return reinterpret_cast<RefObject*>(value); }

// A new ref; takes over one count of `object`.
PyObject* make_ref(Session& session, process::Object* object, uint32_t return_index = 0);

// Can `ref` be used in `session`? Otherwise false and ValueError.
bool check_session(const RefObject* ref, const Session& session);
// `require_session` for something that may be a ref: then the session must be that of the ref, and
// none is started if that has ended. nullptr with an exception set.
Session* require_session_of(PyObject* maybe_ref);

// 48 hexadecimal digits: the name of the task whose first return is `first_return`.
PyObject* task_hex(ObjectId first_return);

// METH_O: a ref that belongs to no session, with the index given.
PyObject* new_ref_for_test(PyObject* module, PyObject* index);

bool init_ref_type();

}  // namespace mobula::python
