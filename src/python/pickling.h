#pragma once
// PicklerLease: a pickler of the pool, for one value. It pickles with the C pickler and cloudpickle's
// rules, protocol 5, buffers out of band, and collects the refs in the value.
//
//   pool ──lease──► dump(value) ──► pickle(), chunks(), buffers(), refs() ──lease ends──► pool
//
// A pickler may be needed while another one is at work, since __reduce__ is Python code: hence the
// pool. While dump() runs, its lease is the thread's *scope*: refs that are pickled anywhere below,
// also by a pickler of the user's own, are recorded there and become a position in its list.
//
// Threads: with the GIL only; a lease stays on its thread.
// Limits:  kPooledMax idle picklers are kept.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "python/owned.h"

namespace mobula::python {

struct PicklerSlot;

// Large bytes of a pickle that are not copied together with the rest.
struct PickleChunk {
  size_t at = 0;  // Before this byte of pickle().
  Owned bytes;    // Exactly of type bytes, so nobody changes them.
};

class PicklerLease {
 public:
  PicklerLease();
  ~PicklerLease();
  PicklerLease(const PicklerLease&) = delete;
  PicklerLease& operator=(const PicklerLease&) = delete;

  // False with an exception set.
  bool dump(PyObject* value);
  bool dump_in_band(PyObject* value);  // Without buffers() and chunks().
  // The same within the scope around this call: refs go there, buffers into the pickle.
  bool dump_within_scope(PyObject* value);

  std::span<const std::byte> pickle() const;
  std::span<const PickleChunk> chunks() const;  // In order; to be put into pickle().
  std::span<const Owned> buffers() const;       // PickleBuffers, contiguous.
  std::span<const Owned> refs() const;          // In order of their positions.

 private:
  bool run(PyObject* value, PicklerSlot* scope, bool in_band);

  std::unique_ptr<PicklerSlot> slot_;
};

// What ObjectRef.__reduce__ returns; an exception outside of a scope.
PyObject* reduce_ref(PyObject* ref);

// Is a value being serialized on this thread, so that refs in it can be pickled?
bool is_within_scope();
// _core.dumps
PyObject* dumps_within_scope(PyObject* value);

// `load_ref` is the function that a pickled ref names.
bool init_pickling(PyObject* load_ref);

}  // namespace mobula::python
