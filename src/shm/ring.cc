#include "shm/ring.h"

#include <cstring>

namespace mobula::shm {

RingProducer::RingProducer(std::byte* memory)
    : header_(*reinterpret_cast<RingHeader*>(memory)),
      data_(memory + sizeof(RingHeader)),
      capacity_(kRingBytesMin),
      tail_(header_.tail.load(std::memory_order_relaxed)) {
  header_.capacity.store(capacity_, std::memory_order_relaxed);
  reserved_tail_ = tail_;
  head_seen_ = header_.head.load(std::memory_order_acquire);
}

bool RingProducer::empty() const { return header_.head.load(std::memory_order_acquire) == tail_; }

bool RingProducer::intact() const {
  const uint64_t head = header_.head.load(std::memory_order_acquire);
  return header_.tail.load(std::memory_order_relaxed) == tail_ &&
         header_.capacity.load(std::memory_order_relaxed) == capacity_ && head <= tail_ &&
         head >= head_seen_;
}

// Doubles the capacity until `size` is at most 1/8 of it. True if the frame can fit now or later
// without growing further.
bool RingProducer::grow_for(size_t size) {
  uint64_t wanted = capacity_;
  while (size > wanted / 8) wanted *= 2;
  if (wants_more_ && wanted == capacity_) wanted *= 2;
  if (wanted > kRingBytesMax) wanted = kRingBytesMax;
  if (wanted == capacity_) return true;
  if (!empty()) return size <= capacity_ / 8;
  capacity_ = wanted;
  wants_more_ = false;
  header_.capacity.store(capacity_, std::memory_order_relaxed);  // Published by the next tail.
  return true;
}

std::byte* RingProducer::reserve(size_t size) {
  MOBULA_CHECK(size >= sizeof(wire::FrameHeader) && size % wire::kFrameAlignment == 0);
  MOBULA_CHECK(size <= kRingBytesMax / 8);
  if ((size > capacity_ / 8 || wants_more_) && !grow_for(size)) return nullptr;

  const uint64_t offset = tail_ & (capacity_ - 1);
  const uint64_t filler = offset + size > capacity_ ? capacity_ - offset : 0;
  const uint64_t end = tail_ + filler + size;
  if (end - head_seen_ > capacity_) {
    head_seen_ = header_.head.load(std::memory_order_acquire);
    if (end - head_seen_ > capacity_) {
      wants_more_ = capacity_ < kRingBytesMax;
      return nullptr;
    }
  }
  if (filler != 0) {
    const wire::FrameHeader wrap{static_cast<uint32_t>(filler), wire::FrameKind::kWrap, 0};
    std::memcpy(data_ + offset, &wrap, sizeof wrap);
  }
  reserved_tail_ = end;
  return data_ + (filler != 0 ? 0 : offset);
}

void RingProducer::publish() {
  tail_ = reserved_tail_;
  header_.tail.store(tail_, std::memory_order_release);
}

RingConsumer::RingConsumer(std::byte* memory)
    : header_(*reinterpret_cast<RingHeader*>(memory)),
      data_(memory + sizeof(RingHeader)),
      head_(header_.head.load(std::memory_order_relaxed)),
      tail_seen_(head_) {}

Result<std::span<const std::byte>> RingConsumer::peek() {
  while (true) {
    if (head_ == tail_seen_) {
      tail_seen_ = header_.tail.load(std::memory_order_acquire);
      if (head_ == tail_seen_) return std::span<const std::byte>{};
      capacity_ = header_.capacity.load(std::memory_order_relaxed);
      const bool power_of_two = (capacity_ & (capacity_ - 1)) == 0;
      if (capacity_ < kRingBytesMin || capacity_ > kRingBytesMax || !power_of_two) {
        return fail(ErrorCode::kInvalidArgument, "ring has an impossible capacity");
      }
    }
    const uint64_t available = tail_seen_ - head_;
    const uint64_t offset = head_ & (capacity_ - 1);
    if (available > capacity_ || available < sizeof(wire::FrameHeader)) {
      return fail(ErrorCode::kInvalidArgument, "ring has an impossible tail");
    }
    wire::FrameHeader header{};
    std::memcpy(&header, data_ + offset, sizeof header);
    if (header.size < sizeof header || header.size % wire::kFrameAlignment != 0 ||
        header.size > available || header.size > capacity_ - offset) {
      return fail(ErrorCode::kInvalidArgument, "ring has a frame of impossible size");
    }
    frame_size_ = header.size;
    if (header.kind != wire::FrameKind::kWrap) {
      return std::span<const std::byte>(data_ + offset, frame_size_);
    }
    pop();
  }
}

void RingConsumer::pop() {
  MOBULA_CHECK(frame_size_ != 0);
  head_ += frame_size_;
  frame_size_ = 0;
  header_.head.store(head_, std::memory_order_release);
}

}  // namespace mobula::shm
