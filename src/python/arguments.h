#pragma once
// Signature: which calls fit a Python function, decided without Python for those that do. Whatever
// looks wrong is left to inspect.signature, which knows how to say it (_serialization.bind_arguments).
//
// Threads: with the GIL only.

#include <cstdint>
#include <vector>

#include "python/owned.h"

namespace mobula::python {

class Signature {
 public:
  // Reads the function's code object. What has none (a builtin, a callable object) fits always.
  bool read(PyObject* function);

  // False with TypeError: the call does not fit.
  bool check(PyObject* function, PyObject* const* arguments, size_t count, PyObject* names) const;

 private:
  bool fits(size_t count, PyObject* names) const;

  bool known_ = false;
  bool takes_any_positional_ = false;
  bool takes_any_keyword_ = false;
  size_t positional_only_ = 0;
  size_t positional_ = 0;     // Including those above.
  std::vector<Owned> names_;  // Of all parameters, in order: positional, keyword-only.
  std::vector<bool> has_default_;
};

}  // namespace mobula::python
