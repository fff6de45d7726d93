#pragma once
// Actors as _core offers them: making, finding and killing them; and, in a process that is one, what its
// executor in Python needs: the identity, and news of calls (those of event loops: actor_call.h).
//
// Threads: with the GIL only.

#include "process/runtime.h"
#include "python/owned.h"

namespace mobula::python {

extern PyMethodDef actor_methods[];

}  // namespace mobula::python
