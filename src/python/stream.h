#pragma once
// Stream: the Python type behind an ObjectRefGenerator, which is what calling a generator task gives.
//
// Threads: with the GIL only; it is released while `next` waits.

#include <memory>

#include "python/owned.h"
#include "python/session.h"

namespace mobula::python {

extern PyTypeObject stream_type;

// A new Stream; takes over one count of `completed`, which is ready when all items are.
PyObject* make_stream(Session& session, std::shared_ptr<process::Stream> items,
                      process::Object* completed);

bool init_stream_type();

}  // namespace mobula::python
