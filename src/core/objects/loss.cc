#include "core/objects/loss.h"

#include <cstdio>

namespace mobula::objects {

namespace {

const char* why(LossReason reason) {
  switch (reason) {
    case LossReason::kPut:
      return "It was made by put(), not by a task that could run again. Keep what it was made "
             "from, "
             "or make it in a task.";
    case LossReason::kNoRetries:
      return "The task that made it has no retries left (max_retries).";
    case LossReason::kCall:
      return "A method of an actor returned it, and calls are not made again for a lost value.";
    case LossReason::kCancelled:
      return "The generator that yielded it was cancelled, and is not run again.";
    case LossReason::kMissing:
      return "The generator that yielded it was run again, and yielded fewer items than before: it "
             "must yield the same ones each time.";
    case LossReason::kEvicted:
      return "The task that made it was forgotten: its owner keeps only so many bytes of finished "
             "tasks (MOBULA_MAX_LINEAGE_BYTES).";
    case LossReason::kCreatorDead:
      return "The process that submitted the task that made it is dead, and nobody else can run "
             "that "
             "task.";
    case LossReason::kArgument:
      return "An argument of the task that made it does not exist any more and cannot be made "
             "again.";
  }
  return "";
}

}  // namespace

LossReason loss_reason(Rebuild why_not) {
  switch (why_not) {
    case Rebuild::kNever:
      return LossReason::kPut;
    case Rebuild::kNoRetries:
      return LossReason::kNoRetries;
    case Rebuild::kCall:
      return LossReason::kCall;
    case Rebuild::kCancelled:
      return LossReason::kCancelled;
    case Rebuild::kEvicted:
      return LossReason::kEvicted;
    case Rebuild::kByCreator:
      break;
  }
  return LossReason::kCreatorDead;
}

wire::SystemErrorCode loss_code(LossReason reason) {
  switch (reason) {
    case LossReason::kNoRetries:
      return wire::SystemErrorCode::kRebuildMaxAttempts;
    case LossReason::kEvicted:
      return wire::SystemErrorCode::kRebuildLineageEvicted;
    default:
      return wire::SystemErrorCode::kRebuildFailed;
  }
}

std::string loss_text(ObjectId object, LossReason reason) {
  char id[80];
  std::snprintf(id, sizeof id, "%08x%08x%016llx%024x", number(object.node), number(object.creator),
                static_cast<unsigned long long>(object.index), 0U);
  std::string text(id);
  text += '\0';
  text += "The bytes of object ";
  text += id;
  text += " are lost, and it cannot be made again. ";
  text += why(reason);
  return text;
}

}  // namespace mobula::objects
