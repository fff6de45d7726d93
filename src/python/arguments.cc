#include "python/arguments.h"

#include <string_view>

#include "python/serialization_module.h"

namespace mobula::python {

namespace {

// The parameter counts of a code object, or -1 with an exception set.
Py_ssize_t count_attribute(PyObject* code, const char* name) {
  const Owned value(PyObject_GetAttrString(code, name));
  return value ? PyLong_AsSsize_t(value.get()) : -1;
}

// By functools.cache or lru_cache.
bool is_cached(PyObject* function) {
  constexpr std::string_view kCached = "functools._lru_cache_wrapper";
  return Py_TYPE(function)->tp_name == kCached;
}

}  // namespace

bool Signature::read(PyObject* function) {
  if (!PyFunction_Check(function) && !PyMethod_Check(function) && !is_cached(function)) {
    return true;
  }
  Owned checked = Owned::borrow(function);
  if (!PyFunction_Check(function) || PyObject_HasAttrString(function, "__wrapped__") != 0) {
    const Owned signatures(PyImport_ImportModule("mobula._signatures"));
    if (!signatures) return false;
    checked = Owned(PyObject_CallMethod(signatures.get(), "checked", "O", function));
    if (!checked) return false;
    if (!PyFunction_Check(checked.get())) return true;
  }
  function = checked.get();
  PyObject* code = PyFunction_GetCode(function);
  const Py_ssize_t positional = count_attribute(code, "co_argcount");
  const Py_ssize_t positional_only = count_attribute(code, "co_posonlyargcount");
  const Py_ssize_t keyword_only = count_attribute(code, "co_kwonlyargcount");
  const Py_ssize_t flags = count_attribute(code, "co_flags");
  if (positional < 0 || positional_only < 0 || keyword_only < 0 || flags < 0) return false;
  const Owned names(PyObject_GetAttrString(code, "co_varnames"));
  if (!names || !PyTuple_Check(names.get())) return false;
  PyObject* defaults = PyFunction_GetDefaults(function);
  PyObject* keyword_defaults = PyFunction_GetKwDefaults(function);
  const Py_ssize_t default_count = defaults == nullptr ? 0 : PyTuple_GET_SIZE(defaults);
  for (Py_ssize_t i = 0; i < positional + keyword_only; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names.get(), i);
    names_.push_back(Owned::borrow(name));
    has_default_.push_back(i < positional
                               ? i >= positional - default_count
                               : keyword_defaults != nullptr &&
                                     PyDict_GetItemWithError(keyword_defaults, name) != nullptr);
  }
  positional_ = static_cast<size_t>(positional);
  positional_only_ = static_cast<size_t>(positional_only);
  takes_any_positional_ = (flags & CO_VARARGS) != 0;
  takes_any_keyword_ = (flags & CO_VARKEYWORDS) != 0;
  known_ = true;
  return true;
}

bool Signature::fits(size_t count, PyObject* names) const {
  if (count > positional_ && !takes_any_positional_) return false;
  const Py_ssize_t name_count = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  // Both sides are interned, as a rule; a name that is not only takes the long way.
  const auto given_by_name = [&](size_t parameter) {
    if (parameter < positional_only_) return false;
    for (Py_ssize_t k = 0; k < name_count; ++k) {
      if (PyTuple_GET_ITEM(names, k) == names_[parameter].get()) return true;
    }
    return false;
  };
  Py_ssize_t matched = 0;
  for (size_t i = 0; i < names_.size(); ++i) {
    const bool given = name_count > 0 && given_by_name(i);
    const bool by_position = i < positional_ && i < count;
    if (given && by_position) return false;
    if (given) ++matched;
    if (!given && !by_position && !has_default_[i]) return false;
  }
  return matched == name_count || takes_any_keyword_;
}

bool Signature::check(PyObject* function, PyObject* const* arguments, size_t count,
                      PyObject* names) const {
  if (!known_ || fits(count, names)) [[likely]] {
    return true;
  }
  if (!load_serialization_module()) return false;
  const Owned positional(PyTuple_New(static_cast<Py_ssize_t>(count)));
  const Owned keywords(PyDict_New());
  if (!positional || !keywords) return false;
  for (size_t i = 0; i < count; ++i) {
    PyTuple_SET_ITEM(positional.get(), static_cast<Py_ssize_t>(i), Py_NewRef(arguments[i]));
  }
  const Py_ssize_t name_count = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  for (Py_ssize_t k = 0; k < name_count; ++k) {
    PyObject* value = arguments[count + static_cast<size_t>(k)];
    if (PyDict_SetItem(keywords.get(), PyTuple_GET_ITEM(names, k), value) != 0) return false;
  }
  const Owned bound(PyObject_CallFunctionObjArgs(serialization_module().bind_arguments, function,
                                                 positional.get(), keywords.get(), nullptr));
  return static_cast<bool>(bound);
}

}  // namespace mobula::python
