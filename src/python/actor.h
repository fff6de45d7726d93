#pragma once
// Actors as _core offers them: making, finding and killing them; and, in a process that is one, what its
// executor in Python needs: the identity, and the calls of event loops as objects of the type ActorCall.
//
// Threads: with the GIL only.

#include "process/runtime.h"
#include "python/owned.h"

namespace mobula::python {

extern PyMethodDef actor_methods[];

// The call that this thread's asyncio task executes, or nullptr; an exception may be set.
const process::ClaimedTask* awaited_call();

bool init_actor_call_type();

}  // namespace mobula::python
