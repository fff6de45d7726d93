// The floor: the least that a task between two Python processes can cost.
//
// A Python extension with two rings of 64-byte slots in memory that two processes share. submit()
// puts the arguments of one task into the first ring; serve(), in the other process, calls a Python
// function with them and puts the result into the second ring; collect() returns results in order.
// There are no references, leases, retries, failures or resources, and a waiter never sleeps: it
// looks again at once, and lets others run now and then.
//
// Values travel as pickles; no arguments, and a result of None, need none.
//
// Threads: the GIL is held all the time; one process submits and collects, one serves.
// Limits:  one pickle has at most kPayloadBytesMax bytes; at most kSlots tasks are in flight.

#include <Python.h>
#include <sched.h>
#include <sys/prctl.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>

namespace {

constexpr uint32_t kSlots = 2048;
constexpr Py_ssize_t kPayloadBytesMax = 60;
constexpr int kLooksBeforeYield = 2000;
constexpr uint32_t kEmpty = 0;
constexpr uint32_t kStop = UINT32_MAX;

// Full when `state` is not kEmpty; then it is the size of the payload plus one, or kStop.
struct Slot {
  std::atomic<uint32_t> state;
  std::array<char, kPayloadBytesMax> payload;
};
static_assert(sizeof(Slot) == 64);
static_assert(std::atomic<uint32_t>::is_always_lock_free);

struct Ring {
  Slot* slots = nullptr;
  uint32_t next = 0;

  Slot& front() { return slots[next % kSlots]; }
  Slot& take() { return slots[next++ % kSlots]; }
};

struct Floor {
  Py_buffer memory{};
  Ring tasks;
  Ring results;
  PyObject* dumps = nullptr;
  PyObject* loads = nullptr;
  PyObject* protocol = nullptr;
};
Floor the_floor;  // One pair of rings per process is enough.

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// False: a signal handler raised.
bool wait_while(const Slot& slot, bool (*unready)(uint32_t)) {
  for (int looks = 1; unready(slot.state.load(std::memory_order_acquire)); ++looks) {
    if (looks % kLooksBeforeYield != 0) {
      pause_briefly();
      continue;
    }
    sched_yield();
    if (PyErr_CheckSignals() != 0) {
      return false;
    }
  }
  return true;
}

bool wait_full(const Slot& slot) {
  return wait_while(slot, [](uint32_t state) { return state == kEmpty; });
}

bool wait_empty(const Slot& slot) {
  return wait_while(slot, [](uint32_t state) { return state != kEmpty; });
}

// Puts the value into the next slot; nullptr stands for "nothing" and takes no pickle. False: an
// exception is set and nothing was sent.
bool push(Ring& ring, PyObject* value) {
  PyObject* pickle = nullptr;
  Py_ssize_t size = 0;
  if (value != nullptr) {
    PyObject* const arguments[] = {value, the_floor.protocol};
    pickle = PyObject_Vectorcall(the_floor.dumps, arguments, 2, nullptr);
    if (pickle == nullptr) {
      return false;
    }
    size = PyBytes_GET_SIZE(pickle);
  }
  const bool fits = size <= kPayloadBytesMax;
  if (!fits) {
    PyErr_SetString(PyExc_ValueError, "the pickle does not fit into a slot");
  }
  const bool sent = fits && wait_empty(ring.front());
  if (sent) {
    Slot& slot = ring.take();
    if (pickle != nullptr) {
      std::memcpy(slot.payload.data(), PyBytes_AS_STRING(pickle), static_cast<size_t>(size));
    }
    slot.state.store(static_cast<uint32_t>(size) + 1, std::memory_order_release);
  }
  Py_XDECREF(pickle);
  return sent;
}

struct Popped {
  bool ok = false;
  bool stop = false;
  PyObject* value = nullptr;  // A new reference, or nullptr for "nothing".
};

Popped pop(Ring& ring) {
  if (!wait_full(ring.front())) {
    return {};
  }
  Slot& slot = ring.take();
  const uint32_t state = slot.state.load(std::memory_order_acquire);
  Popped popped{.ok = true, .stop = state == kStop};
  if (!popped.stop && state > 1) {
    PyObject* bytes = PyBytes_FromStringAndSize(slot.payload.data(), state - 1);
    popped.value = bytes == nullptr ? nullptr : PyObject_CallOneArg(the_floor.loads, bytes);
    Py_XDECREF(bytes);
    popped.ok = popped.value != nullptr;
  }
  slot.state.store(kEmpty, std::memory_order_release);
  return popped;
}

PyObject* attach(PyObject*, PyObject* memory) {
  if (the_floor.memory.obj != nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "attached already");
    return nullptr;
  }
  if (PyObject_GetBuffer(memory, &the_floor.memory, PyBUF_WRITABLE) != 0) {
    return nullptr;
  }
  if (the_floor.memory.len < static_cast<Py_ssize_t>(2 * kSlots * sizeof(Slot))) {
    PyBuffer_Release(&the_floor.memory);
    PyErr_SetString(PyExc_ValueError, "memory is too small for two rings");
    return nullptr;
  }
  auto* slots = static_cast<Slot*>(the_floor.memory.buf);
  the_floor.tasks = Ring{.slots = slots};
  the_floor.results = Ring{.slots = slots + kSlots};
  Py_RETURN_NONE;
}

// submit(*args): one task.
PyObject* submit(PyObject*, PyObject* arguments) {
  if (!push(the_floor.tasks, PyTuple_GET_SIZE(arguments) == 0 ? nullptr : arguments)) {
    return nullptr;
  }
  Py_RETURN_NONE;
}

PyObject* collect_one() {
  Popped result = pop(the_floor.results);
  if (!result.ok) {
    return nullptr;
  }
  return result.value != nullptr ? result.value : Py_NewRef(Py_None);
}

// collect(n): the results of the next n tasks.
PyObject* collect(PyObject*, PyObject* count) {
  const Py_ssize_t size = PyLong_AsSsize_t(count);
  if (size == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  PyObject* list = PyList_New(size);
  for (Py_ssize_t i = 0; list != nullptr && i < size; ++i) {
    PyObject* value = collect_one();
    if (value == nullptr) {
      Py_CLEAR(list);
      break;
    }
    PyList_SET_ITEM(list, i, value);
  }
  return list;
}

// Runs one task that pop() took; false with an exception set: it failed.
bool run(PyObject* function, PyObject* arguments) {
  PyObject* result = arguments == nullptr ? PyObject_CallNoArgs(function)
                                          : PyObject_Call(function, arguments, nullptr);
  Py_XDECREF(arguments);
  if (result == nullptr) {
    return false;
  }
  const bool pushed = push(the_floor.results, result == Py_None ? nullptr : result);
  Py_DECREF(result);
  return pushed;
}

// serve(function): runs tasks until the other side calls stop() or is gone.
PyObject* serve(PyObject*, PyObject* function) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (true) {
    const Popped task = pop(the_floor.tasks);
    if (!task.ok || (!task.stop && !run(function, task.value))) {
      return nullptr;
    }
    if (task.stop) {
      Py_RETURN_NONE;
    }
  }
}

PyObject* stop(PyObject*, PyObject*) {
  if (!wait_empty(the_floor.tasks.front())) {
    return nullptr;
  }
  the_floor.tasks.take().state.store(kStop, std::memory_order_release);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"attach", attach, METH_O, "Use this writable buffer of MEMORY_BYTES zeroes."},
    {"submit", submit, METH_VARARGS, "Send one task with these arguments."},
    {"collect", collect, METH_O, "Wait for the next n results; a list."},
    {"serve", serve, METH_O, "Call the function for each task, until stop()."},
    {"stop", stop, METH_NOARGS, "End serve() on the other side."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "floor", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit_floor() {
  PyObject* pickle = PyImport_ImportModule("_pickle");
  if (pickle == nullptr) {
    return nullptr;
  }
  the_floor.dumps = PyObject_GetAttrString(pickle, "dumps");
  the_floor.loads = PyObject_GetAttrString(pickle, "loads");
  the_floor.protocol = PyLong_FromLong(5);
  Py_DECREF(pickle);
  PyObject* module = PyModule_Create(&definition);
  if (module == nullptr || the_floor.dumps == nullptr || the_floor.loads == nullptr ||
      PyModule_AddIntConstant(module, "MEMORY_BYTES", 2 * kSlots * sizeof(Slot)) != 0 ||
      PyModule_AddIntConstant(module, "IN_FLIGHT_MAX", kSlots) != 0) {
    Py_XDECREF(module);
    return nullptr;
  }
  return module;
}
