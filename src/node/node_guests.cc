// Node: processes that come through the listener. One that knows the session's token becomes a driver
// with a job of its own, or an observer, which may ask and nothing else. Who does neither in time is
// shown out.

#include <fmt/format.h>

#include <utility>

#include "node/log.h"
#include "node/node.h"
#include "node/session_file.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

constexpr auto kHelloWithin = std::chrono::seconds(10);
// Those that said nothing yet, and observers.
constexpr size_t kGuestsMax = 256;

}  // namespace

Result<void> Node::listen() {
  auto token = make_token();
  MOBULA_TRY(token);
  token_ = std::move(*token);
  auto listener = io::PacketListener::open(
      *loop_, options_.session_directory, kSessionSocket,
      [this](shm::Fd socket, pid_t pid) { add_guest(std::move(socket), pid); },
      [](const std::string& reason) {
        log_warning(fmt::format("event=connection_refused why=\"{}\"", reason));
      });
  MOBULA_TRY(listener);
  listener_ = std::move(*listener);
  return write_session_file(options_, id_, token_);
}

void Node::add_guest(shm::Fd socket, pid_t pid) {
  if (guests_.size() >= kGuestsMax) {
    log_warning(fmt::format("pid={} event=connection_refused why=\"too many guests\"", pid));
    return;
  }
  const ProcessId id = leases_.scheduler().new_process();
  Session& session = sessions_.add(id, JobId{0}, false);
  session.is_guest = true;
  session.pid = pid;
  if (const auto opened = open_socket(session, std::move(socket)); !opened) {
    log_warning(
        fmt::format("pid={} event=connection_refused why=\"{}\"", pid, opened.error().message));
    return sessions_.remove(id);
  }
  guests_[id] = loop_->at(monotonic_now() + kHelloWithin, [this, id] {
    loop_->post([this, id] { on_guest_gone(id, "it said no Hello"); });
  });
}

Result<void> Node::on_guest_hello(Session& session, const wire::fb::Hello& hello) {
  if (hello.token() == nullptr || !same_token(hello.token()->string_view(), token_)) {
    return fail(ErrorCode::kInvalidArgument,
                "wrong token: the session is another one than the one meant");
  }
  if (!listener_) return fail(ErrorCode::kUnavailable, "the session is just ending");
  switch (hello.kind()) {
    case wire::fb::ProcessKind::driver:
      guests_.erase(session.id);
      MOBULA_TRY(add_job(session));
      return welcome_driver(session, hello);
    case wire::fb::ProcessKind::observer:
      guests_[session.id].reset();
      return welcome(session);
    default:
      return fail(ErrorCode::kInvalidArgument, "only drivers and observers can join");
  }
}

Result<bool> Node::on_guest_record(Session& session, const wire::fb::ToDaemon& record) {
  switch (record.body_type()) {
    case UplinkBody::Query:
      state_.answer(session, *record.body_as_Query());
      return true;
    case UplinkBody::Leave:
      sessions_.send(session,
                     [](wire::Builder& builder) { return wire::fb::CreateGoodbye(builder, true); });
      return true;
    default:
      return false;
  }
}

void Node::on_guest_gone(ProcessId guest, const std::string& reason) {
  Session* session = sessions_.find(guest);
  if (session == nullptr || !session->is_guest || !session->socket) return;
  log_info(fmt::format("process={} pid={} event=guest_gone why=\"{}\"", number(guest), session->pid,
                       reason));
  guests_.erase(guest);
  state_.forget(guest);
  close_socket(*session);
  session->uplink.reset();
  loop_->post([this, guest] { sessions_.remove(guest); });
}

}  // namespace mobula::node
