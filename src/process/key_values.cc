// RuntimeImpl: the node's table of keys and values. The daemon keeps it; a process asks, and waits for
// answers.

#include <algorithm>

#include "core/keyvalues/key_values.h"
#include "process/runtime_impl.h"

namespace mobula::process {

namespace {

using keyvalues::KeyValues;

// Of a value, in one record; a record has a largest size.
constexpr size_t kPieceBytes = 64 * 1024;

Result<void> check(const KeyValueCall& call) {
  if (call.key.size() > KeyValues::kKeyBytesMax || call.space.size() > KeyValues::kKeyBytesMax) {
    return fail(ErrorCode::kInvalidArgument, "a key, and a namespace, has at most " +
                                                 std::to_string(KeyValues::kKeyBytesMax) +
                                                 " bytes");
  }
  if (call.value.size() > KeyValues::kValueBytesMax) {
    return fail(ErrorCode::kInvalidArgument,
                "a value has at most " + std::to_string(KeyValues::kValueBytesMax) +
                    " bytes, this one has " + std::to_string(call.value.size()) +
                    "; put() keeps larger ones");
  }
  return {};
}

flatbuffers::Offset<flatbuffers::Vector<uint8_t>> bytes_of(wire::Builder& builder,
                                                           std::string_view bytes) {
  return builder.CreateVector(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

Result<KeyValueOut> RuntimeImpl::key_value(const KeyValueCall& call, Gate& gate) {
  MOBULA_TRY(check(call));
  Locked lock(*this);
  if (!disconnected_.empty()) return fail(ErrorCode::kUnavailable, disconnected_);
  Question question;
  const uint64_t request = next_question_++;
  questions_[request] = &question;
  size_t sent = 0;
  do {
    const std::string_view piece = call.value.substr(sent, kPieceBytes);
    sent += piece.size();
    uplink_->send([&](wire::Builder& builder) {
      const auto space = bytes_of(builder, call.space);
      const auto key = bytes_of(builder, call.key);
      const auto value = bytes_of(builder, piece);
      return wire::fb::CreateKeyValue(builder, request, static_cast<wire::fb::KeyValueOp>(call.op),
                                      space, key, value, sent < call.value.size());
    });
  } while (sent < call.value.size());
  ring_daemon_later();
  MOBULA_TRY(wait_for_answer(request, question, lock, gate, ErrorCode::kInvalidArgument));
  KeyValueOut out{question.found, question.count, {}};
  if (const uint64_t bytes = question.daemon.bytes; bytes > 0) {
    const auto mapped = shm::Mapping::map(question.daemon.memory, bytes, shm::Access::kReadOnly);
    MOBULA_TRY(mapped);
    out.bytes.assign(reinterpret_cast<const char*>(mapped->data()), bytes);
  }
  return out;
}

}  // namespace mobula::process
