#include "node/uplinks.h"

#include <cstring>
#include <limits>
#include <utility>

#include "wire/limits.h"

namespace mobula::node {

namespace {

using Parts = std::map<ProcessId, std::vector<std::byte>>;

// Nothing: it is a part, and belongs to the sender's next record that is none.
Result<std::optional<wire::ToDaemonMessage>> take(Parts& parts, ProcessId sender,
                                                  std::span<const std::byte> frame) {
  wire::FrameHeader header{};
  std::memcpy(&header, frame.data(), sizeof header);
  if (header.kind == wire::FrameKind::kPart) {
    const auto bytes = frame.subspan(sizeof header);
    std::vector<std::byte>& before = parts[sender];
    if (before.size() + bytes.size() > wire::kLargeControlBytesMax) {
      return fail(ErrorCode::kInvalidArgument, "an uplink record in parts is too large");
    }
    before.insert(before.end(), bytes.begin(), bytes.end());
    return std::nullopt;
  }
  auto body = wire::record_body(frame);
  MOBULA_TRY(body);
  std::vector<std::byte> whole;
  if (auto before = parts.extract(sender)) {
    whole = std::move(before.mapped());
    whole.insert(whole.end(), body->begin(), body->end());
    body = whole;
  }
  auto message = wire::ToDaemonMessage::parse(*body);
  MOBULA_TRY(message);
  return std::move(*message);
}

}  // namespace

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
    const auto message = take(parts_, session.id, *frame);
    session.uplink->pop();  // What counts from here on is the copy.
    did = true;
    ++records_read_;
    if (!message) {
      handlers_.on_broken(session, message.error().message);
      return true;
    }
    if (*message) handlers_.on_record(session, **message);
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
  std::erase_if(parts_, [this](const auto& part) { return sessions_.find(part.first) == nullptr; });
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
