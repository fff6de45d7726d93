#pragma once
// A single-producer, single-consumer ring of frames in shared memory.
//
// Positions are bytes since the ring was made and never wrap; a frame lies at position & (capacity-1)
// and is contiguous (a kWrap frame fills the rest before the end). A ring starts small and grows in
// place: when it is empty, the producer may double its capacity up to what the mapping holds, so that
// memory is touched only by rings that need it. The consumer reads the capacity whenever it goes on
// from empty, and so never uses an old one.
//
// The consumer copies and checks every frame header. A bad one ends the ring (kInvalidArgument): the
// producer is broken and must be cut off.
//
// Threads: one producer, one consumer; each object belongs to one of them.
// Limits:  a frame is at most 1/8 of the capacity; capacity_max is a power of two.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "wire/frames.h"

namespace mobula::shm {

constexpr uint64_t kRingBytesMin = 32 * 1024;
constexpr uint64_t kRingBytesMax = 1024 * 1024;

// At the start of a ring's memory; kRingBytesMax bytes of frames follow.
struct RingHeader {
  alignas(64) std::atomic<uint64_t> tail;  // Written by the producer.
  std::atomic<uint64_t> capacity;          // Written by the producer while the ring is empty.
  alignas(64) std::atomic<uint64_t> head;  // Written by the consumer.
};
static_assert(sizeof(RingHeader) == 128);
constexpr size_t kRingMemoryBytes = sizeof(RingHeader) + kRingBytesMax;

class RingProducer {
 public:
  // `memory`: kRingMemoryBytes, zeroed when the ring was made; outlives this object.
  explicit RingProducer(std::byte* memory);

  // Room for a frame of `size` bytes (a multiple of 8), or nullptr if the consumer must read first.
  // The frame is the producer's until publish(). One reservation at a time.
  std::byte* reserve(size_t size);
  // Makes the reserved frame visible.
  void publish();
  // What is published stands there again, whoever wrote over it.
  void publish_again() {
    header_.capacity.store(capacity_, std::memory_order_relaxed);
    header_.tail.store(tail_, std::memory_order_release);
  }

  bool empty() const;
  // False: somebody wrote over what is ours, or the consumer wrote what no consumer does.
  bool intact() const;

 private:
  bool grow_for(size_t size);

  RingHeader& header_;
  std::byte* const data_;
  uint64_t capacity_;
  uint64_t tail_ = 0;
  uint64_t reserved_tail_ = 0;
  uint64_t head_seen_ = 0;
  bool wants_more_ = false;  // Was full: grow when next empty.
};

class RingConsumer {
 public:
  explicit RingConsumer(std::byte* memory);

  // The next frame, header included; empty if there is none now. The bytes stay in place until
  // pop() and can change under the reader if the producer is hostile: copy what decides.
  // kInvalidArgument: the producer broke the ring.
  Result<std::span<const std::byte>> peek();
  // Done with the frame that peek() returned.
  void pop();

  bool empty() const { return header_.tail.load(std::memory_order_acquire) == head_; }
  // False: somebody wrote over what is ours.
  bool intact() const { return header_.head.load(std::memory_order_relaxed) == head_; }
  // How far it was read, and how far it is written: never more ahead than a ring holds.
  uint64_t position() const { return head_; }
  uint64_t end() const {
    const uint64_t tail = header_.tail.load(std::memory_order_acquire);
    return tail - head_ <= kRingBytesMax ? tail : head_;  // Else peek() will refuse it.
  }

 private:
  RingHeader& header_;
  const std::byte* const data_;
  uint64_t capacity_ = 0;
  uint64_t head_ = 0;
  uint64_t tail_seen_ = 0;
  uint64_t frame_size_ = 0;
};

}  // namespace mobula::shm
