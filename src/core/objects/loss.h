#pragma once
// What the user is told of a value that is lost and cannot be made again: the error's class, and a
// text that says why and what to do.
//
// Threads: any.

#include <string>

#include "core/objects/object_value.h"

namespace mobula::objects {

// What stands in the way of making a value again.
enum class LossReason {
  kPut,          // No task made it.
  kNoRetries,    // Its task is not to run again.
  kCall,         // A method of an actor returned it.
  kCancelled,    // Its generator was cancelled.
  kMissing,      // Its generator was run again, and did not yield it.
  kEvicted,      // Its task is not known any more.
  kCreatorDead,  // The process that kept its task is dead.
  kArgument,     // An argument of its task does not exist any more.
};

LossReason loss_reason(Rebuild why);
wire::SystemErrorCode loss_code(LossReason reason);
// The id of the object (56 hexadecimal digits), NUL, some sentences.
std::string loss_text(ObjectId object, LossReason reason);

}  // namespace mobula::objects
