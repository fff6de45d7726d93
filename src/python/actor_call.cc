#include "python/actor_call.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "python/serialization_module.h"
#include "python/worker_loop.h"

namespace mobula::python {

namespace {

using process::ClaimedTask;

// Taken from the rings at a time; more are taken at once.
constexpr size_t kTakenMax = 64;
// How long a loop that has nothing to do looks for the next call after it has answered one at once, and for
// how long it does so before it looks at its timers and descriptors.
constexpr Duration kLook = std::chrono::microseconds(20);
constexpr Duration kAtOnceMax = std::chrono::milliseconds(1);

struct LoopCallsObject {
  PyObject_HEAD PyObject*
      tasks;             // dict: the calls that were taken and are not over -> asyncio's tasks.
  Py_ssize_t limit;      // So many run at a time.
  Py_ssize_t not_begun;  // Calls whose tasks have not taken their first step.
  uint32_t group;
  bool is_full;  // There may be more than the limit: `refill` is called when one is over.
  bool is_over;  // No call will come any more.
};

struct CallObject {
  PyObject_HEAD ClaimedTask* task;  // Null once it is over.
  LoopCallsObject* group;
  PyObject* awaited;  // A coroutine, or what __await__ gave. Null: new, or over.
  bool cancelled;
  bool is_counted;   // In not_begun of its group.
  bool begun_early;  // Before its task was made, and that has not taken its first step.
};

LoopCallsObject* as_group(PyObject* object) { return reinterpret_cast<LoopCallsObject*>(object); }
CallObject* as_call(PyObject* object) { return reinterpret_cast<CallObject*>(object); }
template <typename T>
PyObject* as_object(T* object) {
  return reinterpret_cast<PyObject*>(object);
}

PyTypeObject group_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject call_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
// A context variable: the ActorCall that a task of asyncio's executes.
PyObject* current_call = nullptr;
bool any_call = false;

void note_begun(CallObject* call) {
  if (std::exchange(call->is_counted, false)) --call->group->not_begun;
}

// ---- the end of a call

bool check_open(CallObject* call) {
  if (call->task != nullptr && the_worker != nullptr) return true;
  PyErr_SetString(PyExc_RuntimeError, "the call is over");
  return false;
}

// Its result was sent. False with an exception set.
bool leave_group(CallObject* call) {
  note_begun(call);
  delete std::exchange(call->task, nullptr);
  Py_CLEAR(call->awaited);
  LoopCallsObject* group = call->group;
  if (PyDict_DelItem(group->tasks, as_object(call)) != 0) PyErr_Clear();
  if (!std::exchange(group->is_full, false)) return true;
  const Owned taken(PyObject_CallMethod(as_object(group), "refill", nullptr));
  return static_cast<bool>(taken);
}

// With an exception set, which becomes the result; or, if it is to, ends this process.
bool end_with_error(CallObject* call) {
  const Owned error = take_exception();
  if (!error) return false;
  const Owned told(
      PyObject_CallMethod(as_object(call->group), "on_error", "OO", as_object(call), error.get()));
  return told && leave_group(call);
}

bool end_with_value(CallObject* call, Owned value) {
  if (call->cancelled) {  // It went on all the same: nobody wants what it made.
    const Owned cancelled(PyObject_GetAttrString(as_object(call->group), "cancelled_error"));
    if (cancelled) PyErr_SetNone(cancelled.get());
    return end_with_error(call);
  }
  if (!the_worker->end(*call->task, std::move(value))) return end_with_error(call);
  return leave_group(call);
}

// ---- the steps of a call

// What is awaited for what the method returned. False with an exception set.
bool set_awaited(CallObject* call, Owned returned) {
  const PyAsyncMethods* async = Py_TYPE(returned.get())->tp_as_async;
  if (PyCoro_CheckExact(returned.get())) {
    call->awaited = returned.release();
  } else if (async != nullptr && async->am_aiter != nullptr) {
    call->awaited = PyObject_CallMethod(as_object(call->group), "send_items", "OO", as_object(call),
                                        returned.get());
  } else {
    call->awaited = async->am_await(returned.get());
    if (call->awaited != nullptr && PyIter_Check(call->awaited) == 0) {
      PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%.100s'",
                   Py_TYPE(call->awaited)->tp_name);
      Py_CLEAR(call->awaited);
    }
  }
  return call->awaited != nullptr;
}

// Calls the method. PYGEN_NEXT: there is something to await.
PySendResult begin(CallObject* call) {
  note_begun(call);
  const Owned token(PyContextVar_Set(current_call, as_object(call)));
  if (!token) return PYGEN_ERROR;
  Owned returned(the_worker->begin(*call->task));
  if (returned.get() == Py_None) return leave_group(call) ? PYGEN_RETURN : PYGEN_ERROR;
  if (returned && set_awaited(call, std::move(returned))) return PYGEN_NEXT;
  return end_with_error(call) ? PYGEN_RETURN : PYGEN_ERROR;
}

// After a step of what is awaited, of which `came` is what it gave.
PySendResult after_step(CallObject* call, PySendResult step, PyObject** came) {
  if (step == PYGEN_NEXT) return step;
  Owned value(std::exchange(*came, nullptr));
  const bool ended =
      step == PYGEN_RETURN && value ? end_with_value(call, std::move(value)) : end_with_error(call);
  if (!ended) return PYGEN_ERROR;
  *came = Py_NewRef(Py_None);
  return PYGEN_RETURN;
}

PySendResult call_am_send(PyObject* self, PyObject* value, PyObject** came) {
  CallObject* call = as_call(self);
  *came = nullptr;
  if (!check_open(call)) return PYGEN_ERROR;
  const Owned keep(Py_NewRef(self));
  if (std::exchange(call->begun_early, false)) {
    note_begun(call);
    if (!Owned(PyContextVar_Set(current_call, self))) return PYGEN_ERROR;
  }
  if (call->awaited == nullptr) {
    const PySendResult begun = begin(call);
    if (begun == PYGEN_RETURN) *came = Py_NewRef(Py_None);
    if (begun != PYGEN_NEXT) return begun;
    value = Py_None;
  }
  const Owned awaited(Py_NewRef(call->awaited));
  return after_step(call, PyIter_Send(awaited.get(), value, came), came);
}

// What a step gave, as a method returns it.
PyObject* as_method(PySendResult step, PyObject* came) {
  if (step != PYGEN_RETURN) return came;
  Py_XDECREF(came);
  PyErr_SetNone(PyExc_StopIteration);
  return nullptr;
}

PyObject* call_send(PyObject* self, PyObject* value) {
  PyObject* came = nullptr;
  const PySendResult step = call_am_send(self, value, &came);
  return as_method(step, came);
}

PyObject* call_next(PyObject* self) { return call_send(self, Py_None); }

// Sets the exception that throw() was given. False: another one.
bool set_thrown(PyObject* arguments) {
  PyObject* type = nullptr;
  PyObject* value = nullptr;
  PyObject* traceback = nullptr;
  if (!PyArg_UnpackTuple(arguments, "throw", 1, 3, &type, &value, &traceback)) return false;
  if (PyExceptionInstance_Check(type)) {
    PyErr_SetObject(as_object(Py_TYPE(type)), type);
  } else {
    PyErr_SetObject(type, value);
  }
  return true;
}

PyObject* call_throw(PyObject* self, PyObject* arguments) {
  CallObject* call = as_call(self);
  if (!check_open(call)) return nullptr;
  const Owned keep(Py_NewRef(self));
  PyObject* came = nullptr;
  if (call->awaited == nullptr) {  // Before its first step.
    if (!set_thrown(arguments)) return nullptr;
    const PySendResult step = after_step(call, PYGEN_ERROR, &came);
    return as_method(step, came);
  }
  const Owned awaited(Py_NewRef(call->awaited));
  const Owned method(PyObject_GetAttrString(awaited.get(), "throw"));
  if (method) {
    came = PyObject_CallObject(method.get(), arguments);
  } else if (PyErr_ExceptionMatches(PyExc_AttributeError) != 0) {  // A plain iterator.
    PyErr_Clear();
    if (!set_thrown(arguments)) return nullptr;
  }
  if (came != nullptr) return came;
  PySendResult step = PYGEN_ERROR;
  if (PyErr_ExceptionMatches(PyExc_StopIteration) != 0) {
    const Owned stop = take_exception();
    came = PyObject_GetAttrString(stop.get(), "value");
    step = PYGEN_RETURN;
  }
  step = after_step(call, step, &came);
  return as_method(step, came);
}

// Nobody waits for it any more: no result is sent.
PyObject* call_close(PyObject* self, PyObject*) {
  const Owned awaited(std::exchange(as_call(self)->awaited, nullptr));
  if (awaited && PyObject_HasAttrString(awaited.get(), "close") != 0) {
    const Owned closed(PyObject_CallMethod(awaited.get(), "close", nullptr));
    if (!closed) return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* call_itself(PyObject* self) { return Py_NewRef(self); }

// ---- what Python asks of a call

// The exception becomes the result. SystemExit: the actor ends.
PyObject* call_fail(PyObject* self, PyObject* error) {
  CallObject* call = as_call(self);
  if (!check_open(call)) return nullptr;
  PyErr_SetObject(as_object(Py_TYPE(error)), error);
  if (!the_worker->end(*call->task, Owned())) return nullptr;
  Py_RETURN_NONE;
}

// False: nobody wants more items.
PyObject* call_yield(PyObject* self, PyObject* item) {
  CallObject* call = as_call(self);
  if (!check_open(call)) return nullptr;
  const Owned keep(Py_NewRef(self));
  process::Waited sent = process::Waited::kEnough;
  if (!the_worker->send_item(*call->task, Owned(Py_NewRef(item)), sent)) return nullptr;
  return PyBool_FromLong(sent == process::Waited::kEnough);
}

PyObject* call_note_cancelled(PyObject* self, PyObject*) {
  as_call(self)->cancelled = true;
  Py_RETURN_NONE;
}

// May `yield_item` wait for the consumer?
PyObject* call_waits(PyObject* self, void*) {
  const ClaimedTask* task = as_call(self)->task;
  return PyBool_FromLong(task != nullptr && task->ahead_max != 0);
}

PyObject* call_name(PyObject* self, void*) {
  const ClaimedTask* task = as_call(self)->task;
  return task == nullptr ? PyUnicode_FromString("call") : to_text(task->function->name).release();
}

// asyncio shows, of a task, where its coroutine is: that of the method.
template <const char* Name>
PyObject* call_of_coroutine(PyObject* self, void*) {
  PyObject* awaited = as_call(self)->awaited;
  if (awaited == nullptr || PyCoro_CheckExact(awaited) == 0) Py_RETURN_NONE;
  return PyObject_GetAttrString(awaited, Name);
}

constexpr char kFrame[] = "cr_frame";
constexpr char kAwait[] = "cr_await";
constexpr char kCode[] = "cr_code";

PyObject* call_running(PyObject* self, void*) {
  PyObject* awaited = as_call(self)->awaited;
  if (awaited == nullptr || PyCoro_CheckExact(awaited) == 0) Py_RETURN_FALSE;
  return PyObject_GetAttrString(awaited, "cr_running");
}

int call_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_object(as_call(self)->group));
  Py_VISIT(as_call(self)->awaited);
  return 0;
}

int call_clear(PyObject* self) {
  Py_CLEAR(as_call(self)->awaited);
  return 0;
}

void call_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  CallObject* call = as_call(self);
  call_clear(self);
  delete call->task;
  Py_CLEAR(call->group);
  PyObject_GC_Del(self);
}

PyAsyncMethods call_async = {call_itself, nullptr, nullptr, call_am_send};

PyMethodDef call_methods[] = {{"send", call_send, METH_O, nullptr},
                              {"throw", call_throw, METH_VARARGS, nullptr},
                              {"close", call_close, METH_NOARGS, nullptr},
                              {"fail", call_fail, METH_O, nullptr},
                              {"yield_item", call_yield, METH_O, nullptr},
                              {"note_cancelled", call_note_cancelled, METH_NOARGS, nullptr},
                              {nullptr, nullptr, 0, nullptr}};

PyGetSetDef call_properties[] = {{"waits", call_waits, nullptr, nullptr, nullptr},
                                 {"__name__", call_name, nullptr, nullptr, nullptr},
                                 {"__qualname__", call_name, nullptr, nullptr, nullptr},
                                 {"cr_frame", call_of_coroutine<kFrame>, nullptr, nullptr, nullptr},
                                 {"cr_await", call_of_coroutine<kAwait>, nullptr, nullptr, nullptr},
                                 {"cr_code", call_of_coroutine<kCode>, nullptr, nullptr, nullptr},
                                 {"cr_running", call_running, nullptr, nullptr, nullptr},
                                 {nullptr, nullptr, nullptr, nullptr, nullptr}};

// ---- LoopCalls

PyObject* group_new(PyTypeObject* type, PyObject* arguments, PyObject*) {
  unsigned group = 0;
  Py_ssize_t limit = 0;
  PyObject* loop = nullptr;  // The Python class keeps it.
  if (!PyArg_ParseTuple(arguments, "InO", &group, &limit, &loop)) return nullptr;
  Owned tasks(PyDict_New());
  if (!tasks) return nullptr;
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  as_group(self)->tasks = tasks.release();
  as_group(self)->limit = limit;
  as_group(self)->group = group;
  return self;
}

PyObject* make_call(LoopCallsObject* group, std::unique_ptr<ClaimedTask> task) {
  CallObject* call = PyObject_GC_New(CallObject, &call_type);
  if (call == nullptr) return nullptr;
  call->task = task.release();
  call->group = as_group(Py_NewRef(as_object(group)));
  call->awaited = nullptr;
  call->cancelled = false;
  call->is_counted = false;
  call->begun_early = false;
  PyObject_GC_Track(as_object(call));
  any_call = true;
  return as_object(call);
}

// Begins a call that may need no task; in a context of its own, as a task would. `over`: it needs none.
bool begin_early(CallObject* call, bool& over) {
  const Owned context(PyContext_CopyCurrent());
  if (!context || PyContext_Enter(context.get()) != 0) return false;
  const PySendResult begun = begin(call);
  if (begun == PYGEN_ERROR) {
    const Owned error = take_exception();
    if (PyContext_Exit(context.get()) != 0) return false;
    PyErr_SetObject(as_object(Py_TYPE(error.get())), error.get());
    return false;
  }
  over = begun == PYGEN_RETURN;
  call->begun_early = !over;
  return PyContext_Exit(context.get()) == 0;
}

// Up to `most` calls, which are in `tasks` from now on, so that who cancels one finds it.
bool take_some(LoopCallsObject* group, process::Runtime& runtime, size_t most, Duration look,
               std::vector<Owned>& calls) {
  std::vector<std::unique_ptr<ClaimedTask>> taken;
  group->is_over = !runtime.take_calls(group->group, most, look, taken);
  for (std::unique_ptr<ClaimedTask>& task : taken) {
    calls.emplace_back(make_call(group, std::move(task)));
    PyObject* call = calls.back().get();
    if (call == nullptr || PyDict_SetItem(group->tasks, call, Py_None) != 0) return false;
  }
  return true;
}

// Begins a call, or makes the task that does. `over`: it was answered. False with an exception set.
bool start(LoopCallsObject* group, const Owned& object, PyObject* create_task, bool& over) {
  CallObject* call = as_call(object.get());
  over = false;
  // Only if no call that came before is still to begin.
  if (group->not_begun == 0 && the_worker != nullptr &&
      the_worker->is_at_once(*call->task->function) && (!begin_early(call, over) || over)) {
    return over;
  }
  if (!call->begun_early) {
    call->is_counted = true;
    ++group->not_begun;
  }
  const Owned task(PyObject_CallOneArg(create_task, object.get()));
  if (!task) return false;
  // With a task that starts at once (of a task factory), it may be over.
  if (call->task == nullptr) return true;
  return PyDict_SetItem(group->tasks, object.get(), task.get()) == 0;
}

// (create_task, what the loop has to run now, or None if it does not tell): takes the calls that have come,
// as far as the limit allows, and makes a task of each that is not answered at once. How many they were.
PyObject* group_take(PyObject* self, PyObject* const* arguments, Py_ssize_t count) {
  LoopCallsObject* group = as_group(self);
  if (count != 2) return PyErr_Format(PyExc_TypeError, "take() takes 2 arguments");
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  const Instant until = monotonic_now() + kAtOnceMax;
  Duration look{0};
  Py_ssize_t total = 0;
  while (true) {
    const Py_ssize_t room = group->limit - PyDict_GET_SIZE(group->tasks);
    group->is_full = room <= 0;
    if (group->is_full) break;
    std::vector<Owned> calls;
    const size_t most = std::min(static_cast<size_t>(room), kTakenMax);
    if (!take_some(group, use.runtime(), most, look, calls)) return nullptr;
    bool all_over = !calls.empty() && arguments[1] != Py_None;
    for (const Owned& call : calls) {
      bool over = false;
      if (!start(group, call, arguments[0], over)) return nullptr;
      all_over = all_over && over;
    }
    total += static_cast<Py_ssize_t>(calls.size());
    if (calls.size() == most) continue;
    // Who got an answer at once may ask again at once. The loop waits for that if it has nothing to do.
    if (!all_over || PyObject_Length(arguments[1]) != 0 || monotonic_now() >= until) break;
    look = kLook;
  }
  return PyErr_Occurred() != nullptr ? nullptr : PyLong_FromSsize_t(total);
}

// (channel, tag) -> the call, if it is one of these.
PyObject* group_find(PyObject* self, PyObject* arguments) {
  unsigned long long channel = 0;
  unsigned long long tag = 0;
  if (!PyArg_ParseTuple(arguments, "KK", &channel, &tag)) return nullptr;
  PyObject* call = nullptr;
  PyObject* task = nullptr;
  Py_ssize_t at = 0;
  while (PyDict_Next(as_group(self)->tasks, &at, &call, &task) != 0) {
    const ClaimedTask* claimed = as_call(call)->task;
    if (claimed != nullptr && claimed->channel == channel && claimed->claim_tag == tag) {
      return Py_NewRef(call);
    }
  }
  Py_RETURN_NONE;
}

PyObject* group_tasks(PyObject* self, void*) { return Py_NewRef(as_group(self)->tasks); }
PyObject* group_is_full(PyObject* self, void*) { return PyBool_FromLong(as_group(self)->is_full); }
PyObject* group_is_over(PyObject* self, void*) { return PyBool_FromLong(as_group(self)->is_over); }

int group_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_group(self)->tasks);
  return 0;
}

int group_clear(PyObject* self) {
  Py_CLEAR(as_group(self)->tasks);
  return 0;
}

void group_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  group_clear(self);
  Py_TYPE(self)->tp_free(self);
}

PyMethodDef group_methods[] = {
    {"take", reinterpret_cast<PyCFunction>(group_take), METH_FASTCALL, nullptr},
    {"find", group_find, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef group_properties[] = {{"tasks", group_tasks, nullptr, nullptr, nullptr},
                                  {"is_full", group_is_full, nullptr, nullptr, nullptr},
                                  {"is_over", group_is_over, nullptr, nullptr, nullptr},
                                  {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace

const ClaimedTask* awaited_call() {
  if (!any_call) return nullptr;
  PyObject* call = nullptr;
  if (PyContextVar_Get(current_call, nullptr, &call) != 0) PyErr_Clear();
  const Owned held(call);  // Its context keeps it, too.
  return call == nullptr ? nullptr : as_call(call)->task;
}

bool init_actor_calls(PyObject* module) {
  call_type.tp_name = "mobula._core.ActorCall";
  call_type.tp_doc = "A call that an event loop executes: the coroutine of its task.";
  call_type.tp_basicsize = sizeof(CallObject);
  call_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  call_type.tp_dealloc = call_dealloc;
  call_type.tp_traverse = call_traverse;
  call_type.tp_clear = call_clear;
  call_type.tp_as_async = &call_async;
  call_type.tp_iter = call_itself;
  call_type.tp_iternext = call_next;
  call_type.tp_methods = call_methods;
  call_type.tp_getset = call_properties;

  group_type.tp_name = "mobula._core.LoopCalls";
  group_type.tp_doc = "The calls of one concurrency group of an actor, on an event loop.";
  group_type.tp_basicsize = sizeof(LoopCallsObject);
  group_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
  group_type.tp_new = group_new;
  group_type.tp_dealloc = group_dealloc;
  group_type.tp_traverse = group_traverse;
  group_type.tp_clear = group_clear;
  group_type.tp_methods = group_methods;
  group_type.tp_getset = group_properties;
  if (PyType_Ready(&call_type) != 0 || PyType_Ready(&group_type) != 0) return false;
  current_call = PyContextVar_New("mobula_call", nullptr);
  return current_call != nullptr &&
         PyModule_AddObjectRef(module, "LoopCalls", as_object(&group_type)) == 0;
}

}  // namespace mobula::python
