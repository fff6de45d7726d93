#pragma once
// LoopCalls and ActorCall: calls of an actor that an event loop executes.
//
// LoopCalls are the calls of one concurrency group, on one loop; its class in Python (_LoopGroup) adds what
// is seldom needed. An ActorCall is a call as the coroutine of its asyncio task. It is what it awaits: it
// calls the method when the task takes its first step, hands on what the method's coroutine awaits, and
// sends the result. So a call costs a task of asyncio's, and else no Python code but the method.
//
//   ActorCall:  new ──first send()──► awaits ──the coroutine has ended──► over
//
// Threads: with the GIL only.

#include "process/runtime.h"
#include "python/owned.h"

namespace mobula::python {

// The call that this thread's asyncio task executes, or nullptr.
const process::ClaimedTask* awaited_call();

// Adds the types to the module. False with an exception set.
bool init_actor_calls(PyObject* module);

}  // namespace mobula::python
