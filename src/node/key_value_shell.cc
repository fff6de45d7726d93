#include "node/key_value_shell.h"

#include <cstring>
#include <utility>

#include "node/log.h"
#include "shm/memory.h"

namespace mobula::node {

namespace {

using wire::fb::KeyValueOp;

std::string_view view(const flatbuffers::Vector<uint8_t>* bytes) {
  if (bytes == nullptr) return {};
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

std::string joined(const std::vector<std::string_view>& keys) {
  std::string text;
  for (const std::string_view key : keys) {
    const auto size = static_cast<uint32_t>(key.size());
    text.append(reinterpret_cast<const char*>(&size), sizeof size);
    text.append(key);
  }
  return text;
}

Result<shm::Fd> memory_with(const std::string& bytes) {
  auto memory = shm::create_memory("mobula-keyvalue", bytes.size());
  MOBULA_TRY(memory);
  const auto mapped = shm::Mapping::map(*memory, bytes.size(), shm::Access::kReadWrite);
  MOBULA_TRY(mapped);
  std::memcpy(mapped->data(), bytes.data(), bytes.size());
  return std::move(*memory);
}

}  // namespace

Result<bool> KeyValueShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  const auto* call = record.body_as_KeyValue();
  if (call == nullptr) return false;
  std::string& pieces = pieces_[session.id];
  const std::string_view piece = view(call->value());
  if (pieces.size() + piece.size() > keyvalues::KeyValues::kValueBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a value is longer than any may be");
  }
  pieces.append(piece);
  if (call->more()) return true;
  std::string value = std::move(pieces);
  pieces_.erase(session.id);
  send(session.id, call->request(), answer(*call, std::move(value)));
  return true;
}

KeyValueShell::Reply KeyValueShell::answer(const wire::fb::KeyValue& record, std::string value) {
  const std::string_view space = view(record.space());
  const std::string_view key = view(record.key());
  Reply reply;
  switch (record.op()) {
    case KeyValueOp::put:
    case KeyValueOp::put_new: {
      const auto is_new = table_.put(space, key, std::move(value), record.op() == KeyValueOp::put);
      reply.found = is_new.has_value() && !*is_new;
      if (!is_new) {
        reply.error = is_new.error().message;
        reply.full = is_new.error().code == ErrorCode::kRetryLater;
      }
      break;
    }
    case KeyValueOp::get:
    case KeyValueOp::exists: {
      const std::string* found = table_.get(space, key);
      reply.found = found != nullptr;
      if (found != nullptr && record.op() == KeyValueOp::get) reply.bytes = *found;
      break;
    }
    case KeyValueOp::remove:
      reply.found = table_.remove(space, key);
      reply.count = reply.found ? 1 : 0;
      break;
    case KeyValueOp::remove_all:
      reply.count = table_.remove_all(space, key);
      reply.found = reply.count > 0;
      break;
    case KeyValueOp::list:
      reply.bytes = joined(table_.keys(space, key));
      reply.found = !reply.bytes.empty();
      break;
    default:
      reply.error = "this operation on keys and values is not known";
  }
  return reply;
}

void KeyValueShell::send(ProcessId process, uint64_t request, const Reply& reply) {
  shm::Fd memory;
  std::string error = reply.error;
  if (!reply.bytes.empty()) {
    auto filled = memory_with(reply.bytes);
    if (filled) memory = std::move(*filled);
    if (!filled) error = filled.error().message;
  }
  const int descriptor = memory.get();
  sessions_.send(
      process,
      [&](wire::Builder& builder) {
        const auto text = error.empty() ? 0 : builder.CreateString(error);
        const auto state =
            memory.valid() ? wire::fb::CreateStateText(builder, 0, reply.bytes.size()) : 0;
        return wire::fb::CreateAnswer(builder, request, 0, 0, 0, state, 0, true, reply.found,
                                      reply.count, reply.full, text);
      },
      std::span(&descriptor, memory.valid() ? 1 : 0));
}

}  // namespace mobula::node
