#pragma once
// Cancels passes the wish to cancel a task on: from its caller to the worker that has started it, and
// from a process that borrowed a ref to the one that submitted the task.
//
// It decides nothing: whether the task still runs is known only to who receives the message.
//
// Threads: the loop's.

#include "node/channels.h"
#include "node/sessions.h"

namespace mobula::node {

class Cancels {
 public:
  Cancels(Sessions& sessions, const Channels& channels)
      : sessions_(sessions), channels_(channels) {}

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

 private:
  Result<void> on_cancel(const Session& session, const wire::fb::Cancel& record);
  void on_cancel_object(const wire::fb::CancelObject& record);

  Sessions& sessions_;
  const Channels& channels_;
};

}  // namespace mobula::node
