#include "process/uplink.h"

namespace mobula::process {

void Uplink::push(std::span<const std::byte> message) {
  const size_t size = wire::record_bytes(message.size());
  if (std::byte* room = sender_.reserve(size)) {
    wire::write_record(message, room);
    sender_.publish();
    return;
  }
  std::vector<std::byte> record(size);
  wire::write_record(message, record.data());
  if (size > wire::kFrameBytesMax) builder_.Reset();  // The message lived in it.
  sender_.send(std::move(record));
}

flatbuffers::Offset<wire::fb::RuntimeEnvironment> build_environment(
    wire::Builder& builder, const RuntimeEnvironment& environment) {
  if (environment.spec.empty()) return 0;
  return wire::fb::CreateRuntimeEnvironmentDirect(builder, environment.spec.c_str(),
                                                  environment.time_limit_ms, environment.early);
}

}  // namespace mobula::process
