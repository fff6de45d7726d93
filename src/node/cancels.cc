#include "node/cancels.h"

#include <fmt/format.h>

#include <csignal>
#include <fstream>
#include <string>

#include "node/log.h"
#include "node/machine.h"

namespace mobula::node {

using wire::fb::UplinkBody;

Result<bool> Cancels::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  switch (record.body_type()) {
    case UplinkBody::Cancel:
      MOBULA_TRY(on_cancel(session, *record.body_as_Cancel()));
      return true;
    case UplinkBody::CancelObject:
      on_cancel_object(*record.body_as_CancelObject());
      return true;
    default:
      return false;
  }
}

Result<void> Cancels::on_cancel(const Session& session, const wire::fb::Cancel& record) {
  const ProcessId callee{record.callee()};
  const Session* worker = sessions_.find(callee);
  // It is dead: the task has ended.
  if (worker == nullptr || !worker->welcomed || !worker->socket) return {};
  const auto channel = channels_.find(session.id, callee);
  if (!channel) {
    return fail(ErrorCode::kInvalidArgument, "only the caller of a task can cancel it");
  }
  sessions_.send(callee, [&](wire::Builder& builder) {
    return wire::fb::CreateCancelTask(builder, number(*channel), record.claim_tag(), record.force(),
                                      record.recursive());
  });
  if (record.force() && !worker->is_driver && !looks_.contains(callee)) {
    looks_[callee] =
        loop_.at(monotonic_now() + kStoppedPatience, [this, callee] { kill_if_stopped(callee); });
  }
  return {};
}

void Cancels::kill_if_stopped(ProcessId worker) {
  const auto look = looks_.extract(worker);  // Its callback runs: it is destroyed at the end.
  const Session* session = sessions_.find(worker);
  if (session == nullptr || session->pid <= 0 || !is_stopped(session->pid)) return;
  log_info(
      fmt::format("process={} pid={} event=killed why=\"its task is to end, and it is stopped\"",
                  number(worker), session->pid));
  ::kill(-session->pid, SIGKILL);  // It leads a group: with what user code started.
  ::kill(session->pid, SIGKILL);
}

void Cancels::on_cancel_object(const wire::fb::CancelObject& record) {
  const ObjectId id = wire::from_wire(*record.object());
  const Session* creator = sessions_.find(ProcessId{id.creator});
  if (creator == nullptr || !creator->welcomed) return;  // Dead: its tasks have ended.
  sessions_.send(creator->id, [&](wire::Builder& builder) {
    const wire::fb::ObjectId object = wire::to_wire(id);
    return wire::fb::CreateCancelObject(builder, &object, record.force(), record.recursive());
  });
}

}  // namespace mobula::node
