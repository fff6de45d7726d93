#include "process/uplink.h"

namespace mobula::process {

void Uplink::push(std::span<const std::byte> message) {
  const size_t size = wire::record_bytes(message.size());
  MOBULA_CHECK(size <= wire::kFrameBytesMax);
  if (std::byte* room = sender_.reserve(size)) {
    wire::write_record(message, room);
    sender_.publish();
    return;
  }
  std::vector<std::byte> record(size);
  wire::write_record(message, record.data());
  sender_.send(std::move(record));
}

}  // namespace mobula::process
