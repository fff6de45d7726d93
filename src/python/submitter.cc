#include "python/submitter.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/function_name.h"
#include "python/arguments.h"
#include "python/encode.h"
#include "python/groups.h"
#include "python/object_ref.h"
#include "python/serialization_module.h"
#include "python/stream.h"
#include "python/worker.h"
#include "wire/limits.h"

namespace mobula::python {

namespace {

using process::Object;

// ---- FunctionSource

struct SourceObject {
  PyObject_HEAD PyObject* function;
  PyObject* name;
  PyObject* own_name;  // Of the function, if `name` is another; or null.
  PyObject* method;    // Of an actor: what is sent instead of the function. Or null.
  uint16_t group;      // Then one more than the number of its concurrency group.
  Signature* signature;
  process::Function* defined;  // In session number `session`.
  uint64_t session;
  PyObject* weak_refs;
};

constexpr int kReturnsMax = 1'000'000;

SourceObject* as_source(PyObject* object) { return reinterpret_cast<SourceObject*>(object); }

// The bytes that decoded functions came as. The functions live as long as the worker does.
std::unordered_map<PyObject*, std::string>& pickled_functions() {
  static auto* table = new std::unordered_map<PyObject*, std::string>();
  return *table;
}

// As python/mobula/_limits.py has it. An error is set otherwise.
bool check_name_size(PyObject* name) {
  constexpr Py_ssize_t kNameBytesMax = 16 * 1024;
  if (PyUnicode_GET_LENGTH(name) <= kNameBytesMax / 4) return true;
  const Owned bytes(PyUnicode_AsEncodedString(name, "utf-8", "surrogatepass"));
  if (!bytes) return false;
  if (PyBytes_GET_SIZE(bytes.get()) <= kNameBytesMax) return true;
  PyErr_Format(
      PyExc_ValueError,
      "the name of a function or task has %zd bytes, but at most %zd are allowed: '%.80U...'",
      PyBytes_GET_SIZE(bytes.get()), kNameBytesMax, name);
  return false;
}

PyObject* source_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"function", "name", "method", "group", "own_name", nullptr};
  PyObject* function;
  PyObject* name;
  PyObject* method = nullptr;
  unsigned short group = 0;
  PyObject* own_name = nullptr;
  if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OU|OHU", const_cast<char**>(names),
                                   &function, &name, &method, &group, &own_name)) {
    return nullptr;
  }
  if (!PyCallable_Check(function)) {
    return PyErr_Format(PyExc_TypeError, "%R is not callable", function);
  }
  if (method == nullptr && !check_name_size(name)) return nullptr;  // Else it has two parts.
  if (own_name != nullptr && !check_name_size(own_name)) return nullptr;
  auto signature = std::make_unique<Signature>();
  if (!signature->read(function)) return nullptr;
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  SourceObject* source = as_source(self);
  source->function = Py_NewRef(function);
  source->name = Py_NewRef(name);
  const bool has_another = own_name != nullptr && PyUnicode_Compare(name, own_name) != 0;
  source->own_name = has_another ? Py_NewRef(own_name) : nullptr;
  if (method != nullptr) {
    source->method = Py_NewRef(method);
    source->group = static_cast<uint16_t>(group + 1);
  }
  source->signature = signature.release();
  return self;
}

int source_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_source(self)->function);
  return 0;
}

int source_clear(PyObject* self) {
  Py_CLEAR(as_source(self)->function);
  return 0;
}

void source_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  SourceObject* source = as_source(self);
  if (source->weak_refs != nullptr) PyObject_ClearWeakRefs(self);
  source_clear(self);
  Py_CLEAR(source->name);
  Py_CLEAR(source->own_name);
  Py_CLEAR(source->method);
  delete source->signature;
  Py_TYPE(self)->tp_free(self);
}

PyObject* source_function(PyObject* self, void*) { return Py_XNewRef(as_source(self)->function); }
PyObject* source_name(PyObject* self, void*) { return Py_NewRef(as_source(self)->name); }

PyGetSetDef source_properties[] = {
    {"function", source_function, nullptr, "What runs in a worker.", nullptr},
    {"name", source_name, nullptr, "What people see.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

bool define(SourceObject* source, Session& session) {
  Py_ssize_t size = 0;
  const char* name = PyUnicode_AsUTF8AndSize(source->name, &size);
  if (name == nullptr) return false;
  Encoder encoder(session);
  const auto known = pickled_functions().find(source->function);
  if (source->method != nullptr) {
    if (!encoder.add_function(source->method)) return false;
  } else if (known != pickled_functions().end()) {
    encoder.add_encoded(std::as_bytes(std::span(known->second)));
  } else if (!encoder.add_function(source->function)) {
    if (encoder.value_bytes() > kFunctionBytesMax) {
      PyErr_Clear();
      const double megabytes = static_cast<double>(encoder.value_bytes()) / (1 << 20);
      raise_from_hook("function_too_large",
                      Owned(Py_BuildValue("(OOd)", source->function, source->name, megabytes)));
      return false;
    }
    explain_serialization("function", source->function, Py_None, source->name);
    return false;
  }
  std::string text(name, static_cast<size_t>(size));
  if (source->own_name != nullptr) {
    const char* own_name = PyUnicode_AsUTF8(source->own_name);
    if (own_name == nullptr) return false;
    text += kOwnNameMark;
    text += own_name;
  }
  source->defined = session.runtime->define_function(text, encoder.take(), source->group);
  source->session = session.number;
  return true;
}

// ---- Submitter

struct SubmitterObject {
  PyObject_HEAD vectorcallfunc call;
  SourceObject* source;
  ResourceSet* resources;
  PyObject* actor;   // The ref of its handle object, if it is a method. Or null.
  PyObject* origin;  // What it is pickled as: (callable, arguments). Or null.
  process::RuntimeEnvironment* environment;
  std::optional<BundleRef>* bundle;
  process::LeaseLimit limit;
  process::Submission submission;
  uint64_t session;          // In which `submission` is filled in.
  PlacementGroupId fits_in;  // The placement group by which it may be captured.
  PyObject* weak_refs;
};

SubmitterObject* as_submitter(PyObject* object) {
  return reinterpret_cast<SubmitterObject*>(object);
}

bool encode_arguments(const SourceObject* source, PyObject* const* arguments, size_t count,
                      PyObject* names, Encoder& encoder) {
  const size_t name_count = names == nullptr ? 0 : static_cast<size_t>(PyTuple_GET_SIZE(names));
  for (size_t i = 0; i < count + name_count; ++i) {
    if (encoder.add_argument(arguments[i])) [[likely]] {
      continue;
    }
    const Owned position(
        i < count ? PyLong_FromSize_t(i)
                  : Py_NewRef(PyTuple_GET_ITEM(names, static_cast<Py_ssize_t>(i - count))));
    if (position) explain_serialization("argument", arguments[i], position.get(), source->function);
    return false;
  }
  return name_count == 0 || encoder.add_keyword_names(names, name_count);
}

PyObject* make_refs(Session& session, std::span<Object* const> returns) {
  if (returns.size() == 1) return make_ref(session, returns[0]);
  if (returns.empty()) Py_RETURN_NONE;
  Owned list(PyList_New(static_cast<Py_ssize_t>(returns.size())));
  for (uint32_t i = 0; i < returns.size(); ++i) {
    PyObject* ref = list ? make_ref(session, returns[i], i) : nullptr;
    if (ref == nullptr) {  // Its own count went with it; the others' must go too.
      const uint32_t rest = list ? i + 1 : 0;
      for (uint32_t k = rest; k < returns.size(); ++k) session.runtime->drop(returns[k]);
      return nullptr;
    }
    PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), ref);
  }
  return list.release();
}

PyObject* write_resources(const ResourceSet& resources) {
  Owned mapping(PyDict_New());
  if (!mapping) return nullptr;
  for (const auto& [name, amount] : resources.amounts()) {
    const Owned value(
        PyFloat_FromDouble(static_cast<double>(amount) / static_cast<double>(kResourceUnit)));
    if (!value || PyDict_SetItemString(mapping.get(), name.c_str(), value.get()) < 0) {
      return nullptr;
    }
  }
  return mapping.release();
}

// The task is captured by a placement group of which it is not known yet whether it fits in.
bool check_captured(SubmitterObject* self, PlacementGroupId group) {
  if (self->actor == nullptr && !self->bundle->has_value()) {
    const Owned amounts(write_resources(*self->resources));
    if (!amounts) return false;
    Owned arguments(Py_BuildValue("(OO)", self->source->name, amounts.get()));
    if (!Owned(call_hook("check_captured", std::move(arguments)))) return false;
  }
  self->fits_in = group;
  return true;
}

bool prepare(SubmitterObject* self, Session& session) {
  SourceObject* source = self->source;
  if (source->session != session.number && !define(source, session)) return false;
  self->submission.function = source->defined;
  if (self->actor != nullptr) {
    self->submission.actor = as_ref(self->actor)->object;
  } else {
    self->submission.shape =
        session.runtime->shape(*self->resources, *self->environment, *self->bundle, self->limit);
  }
  self->session = session.number;
  return true;
}

PyObject* raise_submit_error(const SubmitterObject* self, const Error& error) {
  if (self->actor == nullptr || error.code != ErrorCode::kRetryLater) return raise_error(error);
  return raise_from_hook(
      "pending_calls_error",
      Owned(Py_BuildValue("(OOs)", self->source->name, self->actor, error.message.c_str())));
}

PyObject* submit(PyObject* callable, PyObject* const* arguments, size_t flagged_count,
                 PyObject* names) {
  SubmitterObject* self = as_submitter(callable);
  const auto count = static_cast<size_t>(PyVectorcall_NARGS(flagged_count));
  PyObject* function = self->source->function;
  if (function == nullptr) [[unlikely]] {  // Called by a finalizer of the garbage it is part of.
    PyErr_SetString(PyExc_RuntimeError, "the remote function is being collected");
    return nullptr;
  }
  if (!self->source->signature->check(function, arguments, count, names)) return nullptr;
  Session* open = require_session();
  if (open == nullptr) return nullptr;
  const SessionUse use(open);
  if (self->actor != nullptr && !check_session(as_ref(self->actor), *open)) return nullptr;
  if (self->session != open->number && !prepare(self, *open)) return nullptr;
  const PlacementGroupId captured = use.runtime().captured();
  if (captured != self->fits_in && !check_captured(self, captured)) [[unlikely]] {
    return nullptr;
  }
  Encoder encoder(*open);
  if (!encode_arguments(self->source, arguments, count, names, encoder)) return nullptr;
  constexpr uint32_t kFew = 8;
  std::array<Object*, kFew> few;
  std::vector<Object*> many(self->submission.num_returns > kFew ? self->submission.num_returns : 0);
  const std::span<Object*> returns(many.empty() ? few.data() : many.data(),
                                   self->submission.num_returns);
  self->submission.parent = current_number();
  if (self->submission.streaming) {
    auto items = use.runtime().submit_generator(self->submission, encoder.take(), returns);
    if (!items.has_value()) return raise_submit_error(self, items.error());
    note_call_site(*open, returns, "task call");
    return make_stream(*open, std::move(*items), returns[0]);
  }
  const Result<void> submitted = use.runtime().submit(self->submission, encoder.take(), returns);
  if (!submitted.has_value()) [[unlikely]] {
    return raise_submit_error(self, submitted.error());
  }
  note_call_site(*open, returns, self->actor != nullptr ? "actor call" : "task call");
  return make_refs(*open, returns);
}

bool check_counts(int num_returns, int max_retries, int ahead_max) {
  if (num_returns > kReturnsMax) {
    PyErr_Format(PyExc_ValueError, "num_returns is %d, but at most %d are allowed", num_returns,
                 kReturnsMax);
    return false;
  }
  if (num_returns >= 0 && max_retries >= -1 && ahead_max >= 0) return true;
  PyErr_SetString(PyExc_ValueError,
                  "num_returns and ahead_max must be at least 0 and max_retries at least -1");
  return false;
}

PyObject* submitter_new(PyTypeObject* type, PyObject* arguments, PyObject* keywords) {
  static const char* names[] = {"source",      "resources",   "num_returns", "max_retries",
                                "streaming",   "ahead_max",   "actor",       "any_order",
                                "concurrent",  "pending_max", "priority",    "time_limit_ms",
                                "environment", "bundle",      "limit",       nullptr};
  PyObject* source;
  PyObject* mapping;
  int num_returns = 1;
  int max_retries = 3;
  int streaming = 0;
  int ahead_max = 0;
  PyObject* actor = nullptr;
  int any_order = 0;
  int concurrent = 0;
  long long pending_max = -1;
  PyObject* priority = Py_None;
  unsigned time_limit_ms = 0;
  PyObject* environment = Py_None;
  PyObject* bundle = Py_None;
  process::LeaseLimit limit;
  if (!PyArg_ParseTupleAndKeywords(
          arguments, keywords, "O!O|iipiO!ppLOIOO(II)", const_cast<char**>(names),
          &function_source_type, &source, &mapping, &num_returns, &max_retries, &streaming,
          &ahead_max, &ref_type, &actor, &any_order, &concurrent, &pending_max, &priority,
          &time_limit_ms, &environment, &bundle, &limit.group, &limit.leases_max)) {
    return nullptr;
  }
  if (limit.group != 0 && limit.leases_max == 0) {
    PyErr_SetString(PyExc_ValueError, "a limit is at least 1");
    return nullptr;
  }
  std::optional<int32_t> own_priority;
  if (priority != Py_None) {
    own_priority = static_cast<int32_t>(PyLong_AsLong(priority));
    if (PyErr_Occurred() != nullptr) return nullptr;
  }
  if (!check_counts(num_returns, max_retries, ahead_max)) return nullptr;
  if (streaming != 0 && num_returns != 1) {
    PyErr_SetString(PyExc_ValueError, "a stream has one return");
    return nullptr;
  }
  std::unique_ptr<ResourceSet> resources = read_resources(mapping);
  if (resources == nullptr) return nullptr;
  auto runtime_environment = std::make_unique<process::RuntimeEnvironment>();
  auto place = std::make_unique<std::optional<BundleRef>>();
  if (!read_environment(environment, *runtime_environment) || !read_bundle(bundle, *place)) {
    return nullptr;
  }
  PyObject* object = type->tp_alloc(type, 0);
  if (object == nullptr) return nullptr;
  SubmitterObject* self = as_submitter(object);
  self->call = submit;
  self->source = as_source(Py_NewRef(source));
  self->resources = resources.release();
  self->actor = Py_XNewRef(actor);
  self->environment = runtime_environment.release();
  self->bundle = place.release();
  self->limit = limit;
  self->submission = process::Submission{.num_returns = static_cast<uint32_t>(num_returns),
                                         .retries_max = max_retries,
                                         .streaming = streaming != 0,
                                         .any_order = any_order != 0,
                                         .concurrent = concurrent != 0,
                                         .pending_max = pending_max,
                                         .ahead_max = static_cast<uint32_t>(ahead_max),
                                         .priority = own_priority,
                                         .time_limit_ms = time_limit_ms};
  return object;
}

int submitter_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(as_submitter(self)->source);
  Py_VISIT(as_submitter(self)->origin);
  return 0;
}

PyObject* wrapped(PyObject* self) {
  PyObject* function = as_submitter(self)->source->function;
  return function == nullptr ? Py_None : function;  // It is being collected.
}
PyObject* source_attribute(PyObject* self, const char* name) {
  return PyObject_GetAttrString(wrapped(self), name);
}

// What inspect.signature() and help() look at: they show the function.
PyObject* submitter_wrapped(PyObject* self, void*) { return Py_NewRef(wrapped(self)); }
PyObject* submitter_doc(PyObject* self, void*) { return source_attribute(self, "__doc__"); }
PyObject* submitter_name(PyObject* self, void*) { return source_attribute(self, "__name__"); }
PyObject* submitter_module(PyObject* self, void*) { return source_attribute(self, "__module__"); }

PyObject* submitter_origin(PyObject* self, void*) {
  PyObject* origin = as_submitter(self)->origin;
  return Py_NewRef(origin == nullptr ? Py_None : origin);
}

int set_submitter_origin(PyObject* self, PyObject* origin, void*) {
  if (origin == nullptr || !PyTuple_Check(origin)) {
    PyErr_SetString(PyExc_TypeError, "the origin of a submitter is a tuple");
    return -1;
  }
  Py_XSETREF(as_submitter(self)->origin, Py_NewRef(origin));
  return 0;
}

PyObject* submitter_reduce(PyObject* self, PyObject*) {
  PyObject* origin = as_submitter(self)->origin;
  if (origin != nullptr) return Py_NewRef(origin);
  return PyErr_Format(PyExc_TypeError, "cannot pickle %R", self);
}

PyMethodDef submitter_methods[] = {{"__reduce__", submitter_reduce, METH_NOARGS, nullptr},
                                   {nullptr, nullptr, 0, nullptr}};

PyGetSetDef submitter_properties[] = {
    {"origin", submitter_origin, set_submitter_origin, nullptr, nullptr},
    {"__wrapped__", submitter_wrapped, nullptr, nullptr, nullptr},
    {"__doc__", submitter_doc, nullptr, nullptr, nullptr},
    {"__name__", submitter_name, nullptr, nullptr, nullptr},
    {"__module__", submitter_module, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

// `source` and `origin` stay: they are there before anything can refer to the Submitter, so it alone
// never closes a cycle.
void submitter_dealloc(PyObject* object) {
  PyObject_GC_UnTrack(object);
  SubmitterObject* self = as_submitter(object);
  if (self->weak_refs != nullptr) PyObject_ClearWeakRefs(object);
  Py_CLEAR(self->source);
  Py_CLEAR(self->actor);
  Py_CLEAR(self->origin);
  delete self->resources;
  delete self->environment;
  delete self->bundle;
  Py_TYPE(object)->tp_free(object);
}

}  // namespace

bool read_environment(PyObject* object, process::RuntimeEnvironment& environment) {
  if (object == Py_None) return true;
  const char* spec;
  Py_ssize_t size = 0;
  unsigned long long time_limit_ms = 0;
  int early = 0;
  if (!PyTuple_Check(object)) {
    PyErr_SetString(PyExc_TypeError, "a runtime environment is (spec, time_limit_ms, early)");
    return false;
  }
  if (!PyArg_ParseTuple(object, "s#Kp", &spec, &size, &time_limit_ms, &early)) return false;
  if (static_cast<size_t>(size) > wire::kRuntimeEnvironmentBytesMax) {
    PyErr_Format(PyExc_ValueError,
                 "the runtime_env is too large: %zd bytes as JSON, of at most %zu", size,
                 wire::kRuntimeEnvironmentBytesMax);
    return false;
  }
  environment = {std::string(spec, static_cast<size_t>(size)), time_limit_ms, early != 0};
  return true;
}

PyTypeObject function_source_type = {PyVarObject_HEAD_INIT(nullptr, 0)};
PyTypeObject submitter_type = {PyVarObject_HEAD_INIT(nullptr, 0)};

void remember_pickled(PyObject* function, const char* value, size_t size) {
  pickled_functions().try_emplace(function, value, size);
}

std::unique_ptr<ResourceSet> read_resources(PyObject* mapping) {
  auto resources = std::make_unique<ResourceSet>();
  const Owned items(PyMapping_Items(mapping));
  if (!items) return nullptr;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items.get()); ++i) {
    const char* name;
    double amount;
    if (!PyArg_ParseTuple(PyList_GET_ITEM(items.get(), i), "sd", &name, &amount)) return nullptr;
    if (!(amount >= 0) || amount > 1e12) {
      PyErr_Format(PyExc_ValueError, "an impossible amount of resource %s", name);
      return nullptr;
    }
    const ResourceAmount fixed = std::llround(amount * static_cast<double>(kResourceUnit));
    if (fixed != 0) resources->set(name, fixed);
  }
  return resources;
}

bool init_submitter_types() {
  function_source_type.tp_name = "mobula._core.FunctionSource";
  function_source_type.tp_doc = "A Python function that can be sent to workers.";
  function_source_type.tp_basicsize = sizeof(SourceObject);
  function_source_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC;
  function_source_type.tp_new = source_new;
  function_source_type.tp_dealloc = source_dealloc;
  function_source_type.tp_traverse = source_traverse;
  function_source_type.tp_clear = source_clear;
  function_source_type.tp_getset = source_properties;
  function_source_type.tp_weaklistoffset = offsetof(SourceObject, weak_refs);

  submitter_type.tp_name = "mobula._core.Submitter";
  submitter_type.tp_doc = "Calling it submits a task.";
  submitter_type.tp_basicsize = sizeof(SubmitterObject);
  submitter_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL;
  submitter_type.tp_new = submitter_new;
  submitter_type.tp_dealloc = submitter_dealloc;
  submitter_type.tp_traverse = submitter_traverse;
  submitter_type.tp_call = PyVectorcall_Call;
  submitter_type.tp_getset = submitter_properties;
  submitter_type.tp_methods = submitter_methods;
  submitter_type.tp_vectorcall_offset = offsetof(SubmitterObject, call);
  submitter_type.tp_weaklistoffset = offsetof(SubmitterObject, weak_refs);
  return PyType_Ready(&function_source_type) == 0 && PyType_Ready(&submitter_type) == 0;
}

}  // namespace mobula::python
