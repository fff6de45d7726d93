#pragma once
// Messages over a ring: FrameSender never blocks and takes messages of any size; MessageReader puts
// parts together again.
//
// What does not fit into the ring waits in the sender's own queue, in order; flush() moves it on when
// the other side has read. The reader moves messages to private memory, so two full rings never wait
// for each other.
//
// Threads: guarded by the runtime's lock.
// Limits:  wire::kMessageBytesMax bytes a message.

#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "base/result.h"
#include "shm/ring.h"

namespace mobula::process {

class FrameSender {
 public:
  explicit FrameSender(std::byte* ring_memory) : ring_(ring_memory) {}

  // Room in the ring for a frame of `size` bytes (a multiple of 8), to be filled in place and
  // finished with publish(); nullptr if it must go through send().
  std::byte* reserve(size_t size);
  void publish() { ring_.publish(); }

  // A whole frame, header first (its size field is set here). Copies what cannot be sent now.
  void send(std::vector<std::byte> frame);
  // As send(), but nothing goes out before the next flush(): records it depends on are not out yet.
  void hold(std::vector<std::byte> frame);
  // Sends what waits. True if nothing waits any more.
  bool flush();
  void publish_again() { ring_.publish_again(); }
  bool waiting() const { return !queue_.empty(); }
  // All was sent and read.
  bool drained() const { return queue_.empty() && ring_.empty(); }
  bool intact() const { return ring_.intact(); }

 private:
  bool push_frame(std::span<const std::byte> frame);
  void split(std::vector<std::byte> message);

  shm::RingProducer ring_;
  std::deque<std::vector<std::byte>> queue_;  // Frames that fit a ring.
};

class MessageReader {
 public:
  explicit MessageReader(std::byte* ring_memory) : ring_(ring_memory) {}

  // The next whole message, FrameHeader first, in private memory that stays valid until the next
  // call; empty if there is none now. kInvalidArgument: the other side broke the ring.
  Result<std::span<const std::byte>> next();
  bool empty() const { return ring_.empty(); }
  bool intact() const { return ring_.intact(); }

 private:
  shm::RingConsumer ring_;
  std::vector<std::byte> parts_;    // Payloads of Part frames so far.
  std::vector<std::byte> message_;  // What next() returned.
};

}  // namespace mobula::process
