#include "process/frame_stream.h"

#include <algorithm>
#include <cstring>

namespace mobula::process {

namespace {

constexpr size_t kHeader = sizeof(wire::FrameHeader);
// Parts are small enough to pass through a ring that has not grown to its full size.
constexpr size_t kPartBytes = 64 * 1024 - kHeader;
// A message buffer larger than this is not kept.
constexpr size_t kKeptBytes = 256 * 1024;

}  // namespace

std::byte* FrameSender::reserve(size_t size) {
  if (!queue_.empty() || size > wire::kFrameBytesMax) return nullptr;
  return ring_.reserve(size);
}

bool FrameSender::push_frame(std::span<const std::byte> frame) {
  std::byte* room = ring_.reserve(frame.size());
  if (room == nullptr) return false;
  std::memcpy(room, frame.data(), frame.size());
  ring_.publish();
  return true;
}

void FrameSender::send(std::vector<std::byte> frame) {
  hold(std::move(frame));
  flush();
}

void FrameSender::hold(std::vector<std::byte> frame) {
  frame.resize(wire::padded(frame.size()));
  MOBULA_CHECK(frame.size() <= wire::kMessageBytesMax);
  if (frame.size() > wire::kFrameBytesMax) return split(std::move(frame));
  const auto size = static_cast<uint32_t>(frame.size());
  std::memcpy(frame.data() + offsetof(wire::FrameHeader, size), &size, sizeof size);
  queue_.push_back(std::move(frame));
}

// The message's bytes after its header go ahead in parts; the header with the last bytes ends it.
void FrameSender::split(std::vector<std::byte> message) {
  size_t at = kHeader;
  while (message.size() - at > kPartBytes) {
    std::vector<std::byte> part(kHeader + kPartBytes);
    const wire::FrameHeader header{static_cast<uint32_t>(wire::padded(part.size())),
                                   wire::FrameKind::kPart, 0};
    std::memcpy(part.data(), &header, kHeader);
    std::memcpy(part.data() + kHeader, message.data() + at, kPartBytes);
    queue_.push_back(std::move(part));
    at += kPartBytes;
  }
  std::vector<std::byte> last(kHeader + message.size() - at);
  std::memcpy(last.data(), message.data(), kHeader);
  std::memcpy(last.data() + kHeader, message.data() + at, message.size() - at);
  const auto size = static_cast<uint32_t>(last.size());
  std::memcpy(last.data() + offsetof(wire::FrameHeader, size), &size, sizeof size);
  queue_.push_back(std::move(last));
}

bool FrameSender::flush() {
  while (!queue_.empty()) {
    if (!push_frame(queue_.front())) return false;
    queue_.pop_front();
  }
  return true;
}

Result<std::span<const std::byte>> MessageReader::next() {
  if (message_.capacity() > kKeptBytes) std::vector<std::byte>().swap(message_);
  while (true) {
    const auto frame = ring_.peek();
    MOBULA_TRY(frame);
    if (frame->empty()) return std::span<const std::byte>{};
    wire::FrameHeader header{};
    std::memcpy(&header, frame->data(), kHeader);
    if (header.kind != wire::FrameKind::kPart) {
      // The ring checked the size of its own copy of the header: set that size, whatever stands there.
      header.size = static_cast<uint32_t>(frame->size() + parts_.size());
      message_.resize(header.size);
      std::memcpy(message_.data(), &header, kHeader);
      if (!parts_.empty()) std::memcpy(message_.data() + kHeader, parts_.data(), parts_.size());
      std::memcpy(message_.data() + kHeader + parts_.size(), frame->data() + kHeader,
                  frame->size() - kHeader);
      if (!parts_.empty()) std::vector<std::byte>().swap(parts_);
      ring_.pop();
      return std::span<const std::byte>(message_);
    }
    if (parts_.size() + frame->size() > wire::kMessageBytesMax) {
      return fail(ErrorCode::kInvalidArgument, "message in parts is too large");
    }
    parts_.insert(parts_.end(), frame->begin() + kHeader, frame->end());
    ring_.pop();
  }
}

}  // namespace mobula::process
