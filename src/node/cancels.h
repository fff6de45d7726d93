#pragma once
// Cancels passes the wish to cancel a task on: from its caller to the worker that has started it, and
// from a process that borrowed a ref to the one that submitted the task.
//
// It decides nothing: whether the task still runs is known only to who receives the message. But a worker
// that is stopped (SIGSTOP) receives nothing: if it is to be ended and still stands there after
// kStoppedPatience, it is killed.
//
// Threads: the loop's.

#include <map>
#include <memory>

#include "io/loop.h"
#include "node/channels.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr auto kStoppedPatience = std::chrono::milliseconds(500);

class Cancels {
 public:
  Cancels(io::Loop& loop, Sessions& sessions, const Channels& channels)
      : loop_(loop), sessions_(sessions), channels_(channels) {}

  // True if the record is one of ours. An error: the process broke the protocol.
  Result<bool> on_record(const Session& session, const wire::fb::ToDaemon& record);

 private:
  Result<void> on_cancel(const Session& session, const wire::fb::Cancel& record);
  void on_cancel_object(const wire::fb::CancelObject& record);
  void kill_if_stopped(ProcessId worker);

  io::Loop& loop_;
  Sessions& sessions_;
  const Channels& channels_;
  std::map<ProcessId, std::unique_ptr<io::Timer>> looks_;  // At workers that are to be ended.
};

}  // namespace mobula::node
