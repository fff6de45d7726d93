#include "python/actor.h"

#include <cmath>
#include <string>
#include <vector>

#include "python/groups.h"
#include "python/object_ref.h"
#include "python/objects.h"
#include "python/submitter.h"
#include "python/worker.h"
#include "python/worker_loop.h"

namespace mobula::python {

namespace {

using process::Object;

// ---- any process

bool read_actor(PyObject* value, Session& session) {
  if (!is_ref(value)) {
    PyErr_SetString(PyExc_TypeError, "not the ref of an actor");
    return false;
  }
  return check_session(as_ref(value), session);
}

PyObject* raise_actor_error(const Error& error) {
  if (error.code != ErrorCode::kInvalidArgument || PyErr_Occurred()) return raise_error(error);
  PyErr_SetObject(PyExc_KeyError, to_text(error.message).get());
  return nullptr;
}

// (handle ref, spec ref, class name, name, namespace, resources, cpus for life, max restarts, detached,
// get if exists, environment as a Submitter's, fails if infeasible, bundle as a Submitter's) -> ref.
// KeyError: the name is taken.
PyObject* create_actor(PyObject*, PyObject* arguments) {
  PyObject* handle;
  PyObject* spec;
  const char* class_name;
  const char* name;
  const char* name_space;
  PyObject* resources;
  double cpus_for_life;
  process::ActorCreation creation;
  int detached;
  int get_if_exists;
  PyObject* environment;
  int fails_if_infeasible;
  PyObject* bundle;
  if (!PyArg_ParseTuple(arguments, "OOsssOdippOpO", &handle, &spec, &class_name, &name, &name_space,
                        &resources, &cpus_for_life, &creation.restarts_max, &detached,
                        &get_if_exists, &environment, &fails_if_infeasible, &bundle) ||
      !read_environment(environment, creation.environment) ||
      !read_bundle(bundle, creation.bundle)) {
    return nullptr;
  }
  Session* open = require_session();
  if (open == nullptr || !read_actor(handle, *open) || !read_actor(spec, *open)) return nullptr;
  const SessionUse use(open);
  const auto amounts = read_resources(resources);
  if (amounts == nullptr) return nullptr;
  creation.handle = as_ref(handle)->object;
  creation.spec = as_ref(spec)->object;
  creation.class_name = class_name;
  creation.name = name;
  creation.name_space = name_space;
  creation.resources = *amounts;
  creation.cpus_for_life = std::llround(cpus_for_life * static_cast<double>(kResourceUnit));
  creation.detached = detached != 0;
  creation.get_if_exists = get_if_exists != 0;
  creation.fails_if_infeasible = fails_if_infeasible != 0;
  PythonGate gate;
  const Result<Object*> made = use.runtime().create_actor(creation, gate);
  if (!made) return raise_actor_error(made.error());
  return make_ref(*open, *made);
}

// (name, namespace) -> ref or None
PyObject* find_actor(PyObject*, PyObject* arguments) {
  const char* name;
  const char* name_space;
  if (!PyArg_ParseTuple(arguments, "ss", &name, &name_space)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  PythonGate gate;
  const Result<Object*> found = use.runtime().find_actor(name, name_space, gate);
  if (!found) return raise_actor_error(found.error());
  if (*found == nullptr) Py_RETURN_NONE;
  return make_ref(*open, *found);
}

// (namespace or "") -> [(name, namespace)]
PyObject* list_actors(PyObject*, PyObject* arguments) {
  const char* name_space;
  if (!PyArg_ParseTuple(arguments, "s", &name_space)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  PythonGate gate;
  const auto names = use.runtime().list_actors(name_space, gate);
  if (!names) return raise_error(names.error());
  Owned list(PyList_New(0));
  for (const auto& [name, its_space] : *names) {
    const Owned pair(Py_BuildValue("(NN)", to_text(name).release(), to_text(its_space).release()));
    if (!list || !pair || PyList_Append(list.get(), pair.get()) != 0) return nullptr;
  }
  return list.release();
}

// (ref, no_restart)
PyObject* kill_actor(PyObject*, PyObject* arguments) {
  PyObject* actor;
  int no_restart;
  if (!PyArg_ParseTuple(arguments, "Op", &actor, &no_restart)) return nullptr;
  Session* open = require_session_of(actor);
  if (open == nullptr || !read_actor(actor, *open)) return nullptr;
  const SessionUse use(open);
  use.runtime().kill_actor(as_ref(actor)->object, no_restart != 0);
  Py_RETURN_NONE;
}

// The actor's id: 32 hexadecimal digits of its handle object's.
PyObject* actor_id(PyObject*, PyObject* ref) {
  if (!is_ref(ref)) return PyErr_Format(PyExc_TypeError, "not the ref of an actor");
  const ObjectId id = as_ref(ref)->id;
  char text[40];
  std::snprintf(text, sizeof text, "%08x%08x%016llx", number(id.node), number(id.creator),
                static_cast<unsigned long long>(id.index));
  return PyUnicode_FromString(text);
}

// ---- a process that is an actor

PyObject* actor_identity(PyObject*, PyObject*) {
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const process::ActorIdentity identity = use.runtime().actor_identity();
  if (identity.actor.is_nil()) Py_RETURN_NONE;
  char text[40];
  std::snprintf(text, sizeof text, "%08x%08x%016llx", number(identity.actor.node),
                number(identity.actor.creator),
                static_cast<unsigned long long>(identity.actor.index));
  const process::LeaseInfo lease = use.runtime().actor_lease();
  return Py_BuildValue(
      "{sNsssIsNsNsN}", "resources", resources_dict(lease.resources).release(), "actor_id", text,
      "restarts", identity.restarts, "class_name", to_text(identity.class_name).release(), "name",
      to_text(identity.name).release(), "namespace", to_text(identity.name_space).release());
}

// (is spec) -> the ref of what the actor is made from, or of its own handle
PyObject* actor_ref(PyObject*, PyObject* is_spec) {
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const process::ActorIdentity identity = use.runtime().actor_identity();
  if (identity.actor.is_nil()) Py_RETURN_NONE;
  Object* object = use.runtime().adopt_object(is_spec == Py_True ? identity.spec : identity.actor);
  return make_ref(*open, object);
}

// (number of concurrency groups, what the instance calls itself)
PyObject* actor_made(PyObject*, PyObject* arguments) {
  unsigned count = 0;
  const char* repr = nullptr;
  if (!PyArg_ParseTuple(arguments, "Is", &count, &repr)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  use.runtime().actor_made(count, repr);
  Py_RETURN_NONE;
}

PyObject* text_call(PyObject* text, void (*call)(process::Runtime&, const std::string&)) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text, &size);
  if (bytes == nullptr) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  call(use.runtime(), std::string(bytes, static_cast<size_t>(size)));
  Py_RETURN_NONE;
}

// (what people are told, what its constructor raised in letters or b"")
PyObject* actor_failed(PyObject*, PyObject* arguments) {
  const char* text = nullptr;
  Py_ssize_t text_size = 0;
  PyObject* error = nullptr;
  if (!PyArg_ParseTuple(arguments, "s#S", &text, &text_size, &error)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const std::span bytes(PyBytes_AS_STRING(error), static_cast<size_t>(PyBytes_GET_SIZE(error)));
  use.runtime().actor_failed(std::string(text, static_cast<size_t>(text_size)),
                             std::as_bytes(bytes));
  Py_RETURN_NONE;
}

PyObject* actor_exiting(PyObject*, PyObject* text) {
  return text_call(text, [](process::Runtime& runtime, const std::string& words) {
    runtime.actor_exiting(words);
  });
}

// Executes calls of a group until the end.
PyObject* run_calls(PyObject*, PyObject* group) {
  const long number = PyLong_AsLong(group);
  if (PyErr_Occurred()) return nullptr;
  Session* open = require_session();
  if (open == nullptr || the_worker == nullptr) return nullptr;
  const SessionUse use(open);
  if (!the_worker->run_calls(static_cast<uint32_t>(number))) return nullptr;
  Py_RETURN_NONE;
}

// ---- calls of event loops

// The key of a running call that was cancelled; None at the end.
PyObject* next_cancelled_call(PyObject*, PyObject*) {
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  uint64_t channel = 0;
  uint64_t tag = 0;
  bool more = false;
  {
    const WithoutGil others_run;
    more = use.runtime().next_cancelled_call(channel, tag);
  }
  if (!more) Py_RETURN_NONE;
  return Py_BuildValue("(KK)", static_cast<unsigned long long>(channel),
                       static_cast<unsigned long long>(tag));
}

// (group) -> is there more? Without the GIL.
PyObject* wait_for_call(PyObject*, PyObject* group) {
  const long number = PyLong_AsLong(group);
  if (PyErr_Occurred()) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  bool more = false;
  {
    const WithoutGil others_run;
    more = use.runtime().wait_for_call(static_cast<uint32_t>(number));
  }
  return PyBool_FromLong(more);
}

}  // namespace

PyMethodDef actor_methods[] = {{"create_actor", create_actor, METH_VARARGS, nullptr},
                               {"find_actor", find_actor, METH_VARARGS, nullptr},
                               {"list_actors", list_actors, METH_VARARGS, nullptr},
                               {"kill_actor", kill_actor, METH_VARARGS, nullptr},
                               {"actor_id", actor_id, METH_O, nullptr},
                               {"actor_identity", actor_identity, METH_NOARGS, nullptr},
                               {"actor_ref", actor_ref, METH_O, nullptr},
                               {"actor_made", actor_made, METH_VARARGS, nullptr},
                               {"actor_failed", actor_failed, METH_VARARGS, nullptr},
                               {"actor_exiting", actor_exiting, METH_O, nullptr},
                               {"run_calls", run_calls, METH_O, nullptr},
                               {"next_cancelled_call", next_cancelled_call, METH_NOARGS, nullptr},
                               {"wait_for_call", wait_for_call, METH_O, nullptr},
                               {nullptr, nullptr, 0, nullptr}};

}  // namespace mobula::python
