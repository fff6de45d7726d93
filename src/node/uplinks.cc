#include "node/uplinks.h"

#include <limits>

namespace mobula::node {

bool Uplinks::read(Session& session, int records, uint64_t end) {
  bool did = false;
  if (!session.broken && !session.uplink->intact()) {
    handlers_.on_broken(session, "the position of its uplink was written over");
    return true;
  }
  for (int count = 0; count < records && !session.broken; ++count) {
    if (session.uplink->position() >= end) break;
    const auto frame = session.uplink->peek();
    if (!frame) {
      handlers_.on_broken(session, frame.error().message);
      return true;
    }
    if (frame->empty()) break;
    const auto body = wire::record_body(*frame);
    const auto message = body ? wire::ToDaemonMessage::parse(*body)
                              : Result<wire::ToDaemonMessage>(tl::unexpect, body.error());
    session.uplink->pop();  // What counts from here on is the copy.
    did = true;
    ++records_read_;
    if (!message) {
      handlers_.on_broken(session, message.error().message);
      return true;
    }
    handlers_.on_record(session, *message);
  }
  return did;
}

bool Uplinks::read_some() {
  const bool wants_pass = objects_.wants_pass();
  if (!in_pass_ && wants_pass) {
    in_pass_ = true;
    objects_.begin_pass();
    for (const auto& [id, session] : sessions_.all()) {
      if (session->uplink && !session->broken) {
        tails_[id] = session->uplink->end();
      }
    }
  }
  bool did = wants_pass;
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->uplink || (session->uplink->empty() && session->uplink->intact())) continue;
    did |= read(*session, kRecordsPerTurn, std::numeric_limits<uint64_t>::max());
  }
  if (in_pass_) advance_pass();
  return did;
}

void Uplinks::advance_pass() {
  std::erase_if(tails_, [this](const auto& entry) {
    Session* session = sessions_.find(entry.first);
    // The uplinks of the dead were read to their ends.
    if (session == nullptr || !session->uplink || session->broken) return true;
    return session->uplink->position() >= entry.second;
  });
  if (!tails_.empty()) return;
  in_pass_ = false;
  objects_.complete_pass();
}

void Uplinks::drain(Session& session) {
  if (!session.uplink) return;
  read(session, std::numeric_limits<int>::max(), session.uplink->end());
}

bool Uplinks::any_unread() const {
  for (const auto& [id, session] : sessions_.all()) {
    if (!session->uplink || session->broken) continue;
    if (!session->uplink->empty() || !session->uplink->intact()) return true;
  }
  return false;
}

}  // namespace mobula::node
