#include "shm/ring.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "shm/bell.h"
#include "shm/channel.h"

namespace mobula::shm {
namespace {

// Zeroed memory shared with forked children.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size)
      : size_(size),
        data_(static_cast<std::byte*>(
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~SharedMemory() { ::munmap(data_, size_); }
  std::byte* data() { return data_; }

 private:
  size_t size_;
  std::byte* data_;
};

constexpr size_t kHeader = sizeof(wire::FrameHeader);

bool push(RingProducer& ring, size_t size, uint8_t fill) {
  std::byte* room = ring.reserve(size);
  if (room == nullptr) return false;
  const wire::FrameHeader header{static_cast<uint32_t>(size), wire::FrameKind::kTask, 0};
  std::memcpy(room, &header, kHeader);
  std::memset(room + kHeader, fill, size - kHeader);
  ring.publish();
  return true;
}

// Size of the next frame, 0 if there is none; checks that its payload is what push() wrote.
size_t pop(RingConsumer& ring, uint8_t fill) {
  const auto frame = ring.peek();
  EXPECT_TRUE(frame.has_value());
  if (!frame.has_value() || frame->empty()) return 0;
  for (const std::byte byte : frame->subspan(kHeader)) {
    EXPECT_EQ(byte, std::byte{fill});
  }
  const size_t size = frame->size();
  ring.pop();
  return size;
}

TEST(Ring, frames_come_out_in_order_and_whole) {
  SharedMemory memory(kRingMemoryBytes);
  RingProducer producer(memory.data());
  RingConsumer consumer(memory.data());
  EXPECT_EQ(pop(consumer, 0), 0U);
  EXPECT_TRUE(push(producer, 64, 1));
  EXPECT_TRUE(push(producer, 128, 2));
  EXPECT_EQ(pop(consumer, 1), 64U);
  EXPECT_EQ(pop(consumer, 2), 128U);
  EXPECT_TRUE(consumer.empty() && producer.empty());
}

TEST(Ring, a_full_ring_refuses_and_grows_when_it_is_empty_again) {
  SharedMemory memory(kRingMemoryBytes);
  RingProducer producer(memory.data());
  RingConsumer consumer(memory.data());
  size_t first = 0;
  while (push(producer, 1024, 3)) ++first;
  EXPECT_EQ(first, kRingBytesMin / 1024);
  while (pop(consumer, 3) != 0) {
  }
  size_t second = 0;
  while (push(producer, 1024, 4)) ++second;
  EXPECT_EQ(second, 2 * first);
  while (pop(consumer, 4) != 0) {
  }
}

TEST(Ring, a_frame_larger_than_an_eighth_waits_until_the_ring_can_grow) {
  SharedMemory memory(kRingMemoryBytes);
  RingProducer producer(memory.data());
  RingConsumer consumer(memory.data());
  EXPECT_TRUE(push(producer, 64, 1));
  EXPECT_FALSE(push(producer, wire::kFrameBytesMax, 2));
  EXPECT_EQ(pop(consumer, 1), 64U);
  EXPECT_TRUE(push(producer, wire::kFrameBytesMax, 2));
  EXPECT_EQ(pop(consumer, 2), wire::kFrameBytesMax);
}

TEST(Ring, a_broken_header_ends_the_ring_instead_of_being_believed) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    SharedMemory memory(kRingMemoryBytes);
    RingProducer producer(memory.data());
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(push(producer, 64, 1));
    RingHeader& header = *reinterpret_cast<RingHeader*>(memory.data());
    const uint64_t word = random();
    switch (random() % 3) {
      case 0:
        std::memcpy(memory.data() + sizeof(RingHeader) + random() % 3 * 64, &word, sizeof word);
        break;
      case 1:
        header.tail.store(word >> random() % 64);
        break;
      default:
        header.capacity.store(word >> random() % 64);
    }
    RingConsumer consumer(memory.data());
    for (int i = 0; i < 10'000; ++i) {  // Whatever it holds, it ends or is refused, in bounds.
      const auto frame = consumer.peek();
      if (!frame.has_value() || frame->empty()) break;
      ASSERT_LE(frame->data() + frame->size(), memory.data() + kRingMemoryBytes);
      consumer.pop();
    }
  }
}

TEST(Ring, each_end_sees_when_its_own_words_were_written_over) {
  SharedMemory memory(kRingMemoryBytes);
  RingProducer producer(memory.data());
  RingConsumer consumer(memory.data());
  RingHeader& header = *reinterpret_cast<RingHeader*>(memory.data());
  const auto write_over = [&](std::atomic<uint64_t>& word, uint64_t value, bool by_producer) {
    const uint64_t before = word.exchange(value);
    EXPECT_EQ(producer.intact(), !by_producer);
    if (&word == &header.head) {
      EXPECT_FALSE(consumer.intact());
    }
    word.store(before);
    EXPECT_TRUE(producer.intact());
    EXPECT_TRUE(consumer.intact());
  };
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(push(producer, 64, 1));
  EXPECT_EQ(pop(consumer, 1), 64);
  write_over(header.tail, 64, true);
  write_over(header.capacity, kRingBytesMax, true);
  write_over(header.head, 256, true);  // Beyond the tail.
  write_over(header.head, 0, false);   // For all that the producer knows it was not read.
}

// Random frames from one side, checked on the other.
void produce(std::byte* memory, uint64_t seed, int frames) {
  std::mt19937_64 random(seed);
  RingProducer producer(memory);
  for (int i = 0; i < frames; ++i) {
    const size_t size = wire::padded(kHeader + random() % (random() % 50 == 0 ? 60'000 : 300));
    while (!push(producer, size, static_cast<uint8_t>(i))) std::this_thread::yield();
  }
}
bool consume(std::byte* memory, uint64_t seed, int frames) {
  std::mt19937_64 random(seed);
  RingConsumer consumer(memory);
  for (int i = 0; i < frames; ++i) {
    const size_t expected = wire::padded(kHeader + random() % (random() % 50 == 0 ? 60'000 : 300));
    size_t size = 0;
    while ((size = pop(consumer, static_cast<uint8_t>(i))) == 0) std::this_thread::yield();
    if (size != expected) return false;
  }
  return true;
}

TEST(Ring, two_threads_agree_on_every_byte) {
  SharedMemory memory(kRingMemoryBytes);
  std::thread producer([&] { produce(memory.data(), 7, 20'000); });
  EXPECT_TRUE(consume(memory.data(), 7, 20'000));
  producer.join();
}

TEST(Ring, two_processes_agree_on_every_byte) {
  SharedMemory memory(kRingMemoryBytes);
  const pid_t child = ::fork();
  if (child == 0) {
    produce(memory.data(), 8, 20'000);
    ::_exit(0);
  }
  EXPECT_TRUE(consume(memory.data(), 8, 20'000));
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Bell, no_wake_up_is_lost_between_looking_and_sleeping) {
  SharedMemory memory(kBellBytes);
  auto& bell = *reinterpret_cast<BellPage*>(memory.data());
  constexpr int kRounds = 20'000;
  std::atomic<int> sent{0};
  std::atomic<int> seen{0};
  std::thread sender([&] {
    for (int i = 1; i <= kRounds; ++i) {
      sent.store(i);
      ring_bell(bell, 5);
      while (seen.load() < i) std::this_thread::yield();
    }
  });
  while (seen.load() < kRounds) {
    const uint32_t sequence = prepare_sleep(bell);
    if (has_news(bell)) {
      cancel_sleep(bell);
    } else {
      ASSERT_NE(sleep(bell, sequence, std::chrono::seconds(20)), Woken::kByTimeout);
    }
    bell.news[0].exchange(0);
    seen.store(sent.load());
  }
  sender.join();
}

TEST(Bell, who_was_woken_leaves_the_flag_to_the_next_sleeper) {
  SharedMemory memory(kBellBytes);
  auto& bell = *reinterpret_cast<BellPage*>(memory.data());
  const uint32_t first = prepare_sleep(bell);
  ring_bell(bell, 5);
  EXPECT_EQ(bell.sleeping.load(), 0U);
  bell.news[0].exchange(0);
  prepare_sleep(bell);  // Another thread, before the first one has run again.
  EXPECT_EQ(sleep(bell, first, std::chrono::seconds(20)), Woken::kByBell);
  EXPECT_EQ(bell.sleeping.load(), 1U);
}

TEST(ClaimWord, a_task_is_started_or_taken_back_but_never_both) {
  SharedMemory memory(kChannelBytes);
  ClaimWord& claim = channel_claim(memory.data(), 3);
  constexpr uint64_t kRounds = 50'000;
  std::atomic<uint64_t> queued{0};
  std::atomic<uint64_t> decided{0};
  std::atomic<uint64_t> started{0};
  std::thread worker([&] {
    for (uint64_t tag = 1; tag <= kRounds; ++tag) {
      while (queued.load() < tag) std::this_thread::yield();
      if (claim.move(tag, ClaimState::kStarted)) started.fetch_add(1);
      decided.store(tag);
    }
  });
  uint64_t revoked = 0;
  for (uint64_t tag = 1; tag <= kRounds; ++tag) {
    claim.queue(tag);
    queued.store(tag);
    if (claim.move(tag, ClaimState::kRevoked)) ++revoked;
    while (decided.load() < tag) std::this_thread::yield();
  }
  worker.join();
  EXPECT_EQ(started.load() + revoked, kRounds);
}

TEST(ClaimWord, a_frame_that_was_taken_back_cannot_start_its_slots_next_task) {
  SharedMemory memory(kChannelBytes);
  ClaimWord& claim = channel_claim(memory.data(), 0);
  claim.queue(1);
  EXPECT_TRUE(claim.move(1, ClaimState::kRevoked));
  claim.queue(2);
  EXPECT_FALSE(claim.move(1, ClaimState::kStarted));
  EXPECT_TRUE(claim.move(2, ClaimState::kStarted));
}

}  // namespace
}  // namespace mobula::shm
