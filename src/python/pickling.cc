#include "python/pickling.h"

#include <cstring>
#include <new>
#include <string_view>

#include "python/object_ref.h"
#include "python/serialization_module.h"

namespace mobula::python {

// What pickler, sink and callbacks share. The callbacks are C functions bound to a capsule that
// points here; the pickler holds them, and the slot holds the pickler.
struct PicklerSlot {
  Owned dump;  // Bound methods of the pickler.
  Owned clear_memo;
  Owned reduce_code;       // cloudpickle's, for functions and classes.
  Owned function_globals;  // A dict in which cloudpickle remembers ids during one dump.
  std::vector<std::byte> pickle;
  std::vector<PickleChunk> chunks;
  std::vector<Owned> buffers;
  std::vector<Owned> refs;
  bool in_band = false;
  size_t private_depth = 0;  // Within so many things of pandas.
};

namespace {

constexpr size_t kPooledMax = 8;
// A slot that has grown beyond this gives its memory back. Bytes.
constexpr size_t kKeptPickleMax = size_t{1} << 20;
// The pickler hands on bytes and texts of this size as they are; a copy would cost as much as all the rest.
constexpr Py_ssize_t kChunkBytesMin = Py_ssize_t{256} << 10;
constexpr char kCapsuleName[] = "mobula.PicklerSlot";

// Never destroyed: by then the interpreter would be gone.
std::vector<std::unique_ptr<PicklerSlot>>& pool = *new std::vector<std::unique_ptr<PicklerSlot>>();
PyObject* load_ref_function = nullptr;
thread_local PicklerSlot* current_scope = nullptr;

PicklerSlot* slot_of(PyObject* capsule) {
  return static_cast<PicklerSlot*>(PyCapsule_GetPointer(capsule, kCapsuleName));
}

// The pickler's file.write(bytes-like).
PyObject* sink_write(PyObject* capsule, PyObject* chunk) {
  PicklerSlot* slot = slot_of(capsule);
  if (slot == nullptr) return nullptr;
  if (!slot->in_band && PyBytes_CheckExact(chunk) && PyBytes_GET_SIZE(chunk) >= kChunkBytesMin) {
    slot->chunks.push_back({slot->pickle.size(), Owned::borrow(chunk)});
    Py_RETURN_NONE;
  }
  Py_buffer view;
  if (PyObject_GetBuffer(chunk, &view, PyBUF_SIMPLE) != 0) return nullptr;
  const auto* data = static_cast<const std::byte*>(view.buf);
  bool stored = true;
  try {  // The standard library's only way to say that memory ran out.
    slot->pickle.insert(slot->pickle.end(), data, data + view.len);
  } catch (const std::bad_alloc&) {
    stored = false;
  }
  PyBuffer_Release(&view);
  if (!stored) return PyErr_NoMemory();
  Py_RETURN_NONE;
}

// The pickler's buffer_callback: false means "keep it out of the pickle".
PyObject* keep_buffer(PyObject* capsule, PyObject* buffer) {
  PicklerSlot* slot = slot_of(capsule);
  if (slot == nullptr) return nullptr;
  const Py_buffer* view = PyPickleBuffer_GetBuffer(buffer);
  if (view == nullptr) return nullptr;
  if (slot->in_band || !PyBuffer_IsContiguous(view, 'A')) Py_RETURN_TRUE;
  slot->buffers.push_back(Owned::borrow(buffer));
  Py_RETURN_FALSE;
}

bool is_main(PyObject* module_name) {
  return PyUnicode_CompareWithASCIIString(module_name, "__main__") == 0;
}

// Will whoever loads the pickle find this function or class by its name? This is cloudpickle's
// question too, asked more cheaply; what it says no to is left to cloudpickle.
bool is_importable(PyObject* value) {
  if (PySet_GET_SIZE(serialization_module().by_value_modules) > 0) return false;
  static PyObject* const module_attribute = PyUnicode_InternFromString("__module__");
  static PyObject* const name_attribute = PyUnicode_InternFromString("__qualname__");
  const Owned module_name(PyObject_GetAttr(value, module_attribute));
  const Owned name(module_name ? PyObject_GetAttr(value, name_attribute) : nullptr);
  if (!name || !PyUnicode_CheckExact(module_name.get()) || !PyUnicode_CheckExact(name.get()) ||
      is_main(module_name.get())) {
    PyErr_Clear();
    return false;
  }
  const Owned module(PyImport_GetModule(module_name.get()));
  const Owned found(module ? PyObject_GetAttr(module.get(), name.get()) : nullptr);
  PyErr_Clear();
  return found.get() == value;
}

// By name: whether numpy is there is for users to say.
bool is_array(PyObject* value) {
  return std::strcmp(Py_TYPE(value)->tp_name, "numpy.ndarray") == 0;
}

// Memory of torch tensors, data of Arrow. By name, too; Python looks more closely.
bool is_of_library(PyObject* value) {
  constexpr std::string_view kArrow = "pyarrow.lib.";
  const std::string_view name = Py_TYPE(value)->tp_name;
  return name == "torch.storage.TypedStorage" || name.substr(0, kArrow.size()) == kArrow;
}

// What may be data of pandas: the blocks of a frame or series, or an array of a type of pandas' own.
bool may_be_of_pandas(PyObject* value) {
  const std::string_view name = Py_TYPE(value)->tp_name;
  return name.ends_with("BlockManager") || name.ends_with("Array") || name == "Categorical";
}

// A mark goes into the pickle as an empty tuple, and says here what lies between it and the next.
PyObject* pass_mark(PicklerSlot& slot, bool begins) {
  if (begins) {
    slot.private_depth++;
  } else if (slot.private_depth > 0) {
    slot.private_depth--;
  }
  return Py_BuildValue("(O())", reinterpret_cast<PyObject*>(&PyTuple_Type));
}

// The pickler's reducer_override: called for whatever is not of an exact builtin type.
PyObject* reduce(PyObject* capsule, PyObject* value) {
  PicklerSlot* slot = slot_of(capsule);
  if (slot == nullptr) return nullptr;
  if (is_ref(value)) return reduce_ref(value);
  if (PyFunction_Check(value) || PyType_Check(value)) {
    if (is_importable(value)) Py_RETURN_NOTIMPLEMENTED;
    return PyObject_CallOneArg(slot->reduce_code.get(), value);
  }
  if (PyExceptionInstance_Check(value)) {
    return PyObject_CallOneArg(serialization_module().reduce_exception, value);
  }
  PyObject* reducers = serialization_module().reducers;
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(value));
  PyObject* reducer = PyDict_GetItemWithError(reducers, type);
  if (reducer != nullptr) return PyObject_CallOneArg(reducer, value);
  if (PyErr_Occurred()) return nullptr;
  const SerializationModule& module = serialization_module();
  if (is_array(value)) {
    const bool is_private = slot->private_depth > 0;
    return PyObject_CallOneArg(is_private ? module.reduce_private_array : module.reduce_array,
                               value);
  }
  if (type == module.private_begin || type == module.private_end) {
    return pass_mark(*slot, type == module.private_begin);
  }
  if (is_of_library(value)) {
    return PyObject_CallOneArg(serialization_module().reduce_of_library, value);
  }
  if (slot->private_depth == 0 && may_be_of_pandas(value)) {
    return PyObject_CallOneArg(module.reduce_of_pandas, value);
  }
  Py_RETURN_NOTIMPLEMENTED;
}

PyMethodDef write_definition = {"write", sink_write, METH_O, nullptr};
PyMethodDef buffer_definition = {"keep_buffer", keep_buffer, METH_O, nullptr};
PyMethodDef reduce_definition = {"reduce", reduce, METH_O, nullptr};

std::unique_ptr<PicklerSlot> make_slot() {
  if (!load_serialization_module()) return nullptr;
  auto slot = std::make_unique<PicklerSlot>();
  const Owned capsule(PyCapsule_New(slot.get(), kCapsuleName, nullptr));
  if (!capsule) return nullptr;
  const Owned write(PyCFunction_New(&write_definition, capsule.get()));
  const Owned keep(PyCFunction_New(&buffer_definition, capsule.get()));
  const Owned override_(PyCFunction_New(&reduce_definition, capsule.get()));
  if (!write || !keep || !override_) return nullptr;
  const Owned parts(PyObject_CallFunctionObjArgs(serialization_module().make_pickler, write.get(),
                                                 keep.get(), override_.get(), nullptr));
  if (!parts) return nullptr;
  PyObject* dump;
  PyObject* clear_memo;
  PyObject* reduce_code;
  PyObject* function_globals;
  if (!PyArg_ParseTuple(parts.get(), "OOOO!", &dump, &clear_memo, &reduce_code, &PyDict_Type,
                        &function_globals)) {
    return nullptr;
  }
  slot->dump = Owned::borrow(dump);
  slot->clear_memo = Owned::borrow(clear_memo);
  slot->reduce_code = Owned::borrow(reduce_code);
  slot->function_globals = Owned::borrow(function_globals);
  return slot;
}

std::unique_ptr<PicklerSlot> take_slot() {
  if (pool.empty()) return make_slot();
  std::unique_ptr<PicklerSlot> slot = std::move(pool.back());
  pool.pop_back();
  return slot;
}

// The pickler of a failed dump is in an unknown state and goes.
void give_back(std::unique_ptr<PicklerSlot> slot) {
  slot->pickle.clear();
  slot->chunks.clear();
  slot->buffers.clear();
  slot->refs.clear();
  slot->private_depth = 0;
  if (slot->pickle.capacity() > kKeptPickleMax) slot->pickle.shrink_to_fit();
  if (pool.size() < kPooledMax) pool.push_back(std::move(slot));
}

bool clear_pickler(PicklerSlot& slot) {
  const Owned done(PyObject_CallNoArgs(slot.clear_memo.get()));
  if (!done) return false;
  if (PyDict_GET_SIZE(slot.function_globals.get()) > 0) PyDict_Clear(slot.function_globals.get());
  return true;
}

void explain_recursion() {
  if (!PyErr_ExceptionMatches(PyExc_RecursionError)) return;
  PyErr_Clear();
  PyErr_SetString(serialization_module().pickling_error,
                  "the object is nested too deeply to be pickled");
}

}  // namespace

PicklerLease::PicklerLease() = default;

PicklerLease::~PicklerLease() {
  if (slot_ != nullptr) give_back(std::move(slot_));
}

bool PicklerLease::dump(PyObject* value) {
  slot_ = take_slot();
  return slot_ != nullptr && run(value, slot_.get(), false);
}

bool PicklerLease::dump_in_band(PyObject* value) {
  slot_ = take_slot();
  return slot_ != nullptr && run(value, slot_.get(), true);
}

bool PicklerLease::dump_within_scope(PyObject* value) {
  slot_ = take_slot();
  return slot_ != nullptr && run(value, current_scope, true);
}

bool PicklerLease::run(PyObject* value, PicklerSlot* scope, bool in_band) {
  slot_->in_band = in_band;
  PicklerSlot* outer = std::exchange(current_scope, scope);
  const Owned done(PyObject_CallOneArg(slot_->dump.get(), value));
  current_scope = outer;
  if (done && clear_pickler(*slot_)) return true;
  explain_recursion();
  slot_.reset();
  return false;
}

std::span<const std::byte> PicklerLease::pickle() const { return slot_->pickle; }
std::span<const PickleChunk> PicklerLease::chunks() const { return slot_->chunks; }
std::span<const Owned> PicklerLease::buffers() const { return slot_->buffers; }
std::span<const Owned> PicklerLease::refs() const { return slot_->refs; }

PyObject* reduce_ref(PyObject* ref) {
  if (current_scope == nullptr) {
    PyErr_SetString(PyExc_TypeError,
                    "an ObjectRef cannot be pickled by itself, because nobody would keep its "
                    "object alive: pass it to a task, return it or put it (it may be inside of "
                    "other values)");
    return nullptr;
  }
  const auto position = static_cast<Py_ssize_t>(current_scope->refs.size());
  current_scope->refs.push_back(Owned::borrow(ref));
  return Py_BuildValue("O(n)", load_ref_function, position);
}

bool is_within_scope() { return current_scope != nullptr; }

PyObject* dumps_within_scope(PyObject* value) {
  if (current_scope == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "dumps() was called outside of a value being serialized");
    return nullptr;
  }
  PicklerLease lease;
  if (!lease.dump_within_scope(value)) return nullptr;
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(lease.pickle().data()),
                                   static_cast<Py_ssize_t>(lease.pickle().size()));
}

bool init_pickling(PyObject* load_ref) {
  load_ref_function = Py_NewRef(load_ref);
  return true;
}

}  // namespace mobula::python
