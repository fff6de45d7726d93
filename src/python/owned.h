#pragma once
// Owned: one counted reference to a Python object. It is the C API's PyObject* with a destructor.
//
// Threads: with the GIL only.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <utility>

#ifdef Py_GIL_DISABLED
#error "mobula._core relies on the GIL; free-threaded Python is not supported"
#endif

namespace mobula::python {

class Owned {
 public:
  Owned() = default;
  // Takes over a reference; nullptr is allowed and means that a call failed.
  explicit Owned(PyObject* object) : object_(object) {}
  static Owned borrow(PyObject* object) {
    Py_XINCREF(object);
    return Owned(object);
  }
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    PyObject* old = std::exchange(object_, std::exchange(other.object_, nullptr));
    Py_XDECREF(old);
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  PyObject* release() { return std::exchange(object_, nullptr); }
  void reset() { Py_CLEAR(object_); }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  PyObject* object_ = nullptr;
};

}  // namespace mobula::python
