#include "shm/pins.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <random>
#include <thread>

namespace mobula::shm {
namespace {

constexpr SegmentId kSegment{3};
constexpr uint64_t kData = 2ULL << 20;

// A segment and a pin table in shared memory, for this process and its children.
struct Store {
  Fd segment_fd;
  Fd pins_fd;
  std::unique_ptr<Mapping> memory;
  std::unique_ptr<Mapping> pins;

  Store() {
    Result<NewSegment> made = create_segment(kSegment, kData);
    EXPECT_TRUE(made.has_value());
    segment_fd = std::move(made->fd);
    pins_fd = std::move(*create_memory("pins", kPinBytes));
    map();
  }
  // In a child the parent's mappings are not there: other things may lie at their addresses.
  void map_in_child() {
    (void)memory.release();
    (void)pins.release();
    map();
  }
  void map() {
    const size_t bytes = segment_file_bytes(kData, segment_entries_for(kData));
    memory = std::make_unique<Mapping>(*Mapping::map(segment_fd, bytes, Access::kReadWrite));
    pins = std::make_unique<Mapping>(*Mapping::map(pins_fd, kPinBytes, Access::kReadWrite));
  }
  SegmentView view() { return *SegmentView::attach(memory->data(), memory->size(), kSegment); }
  // For the two sides of a test to talk: the last words of the data.
  std::atomic<uint32_t>& stop() { return word(64); }
  std::atomic<uint32_t>& reads() { return word(128); }
  std::atomic<uint32_t>& word(size_t from_end) {
    return *reinterpret_cast<std::atomic<uint32_t>*>(memory->data() + memory->size() - from_end);
  }
  wire::StoreLocation sealed(uint32_t entry) {
    SegmentView segment = view();
    const wire::StoreLocation at =
        segment.begin_write(entry, segment.data_offset() + entry * 64, 64, ProcessId{1});
    EXPECT_TRUE(segment.seal(at));
    return at;
  }
  bool pinned(const wire::StoreLocation& at) {
    PinScan scan;
    scan.add(pins->data());
    return scan.pinned(at);
  }
};

TEST(Pins, a_pin_is_seen_until_it_is_taken_back) {
  Store store;
  PinTable table(store.pins->data());
  const wire::StoreLocation one = store.sealed(0);
  const wire::StoreLocation two = store.sealed(1);
  EXPECT_FALSE(store.pinned(one));
  const Result<uint32_t> slot = table.pin(store.view(), one);
  ASSERT_TRUE(slot.has_value());
  EXPECT_TRUE(store.pinned(one));
  EXPECT_FALSE(store.pinned(two));
  table.unpin(*slot);
  EXPECT_FALSE(store.pinned(one));
  EXPECT_EQ(table.pinned(), 0);
}

TEST(Pins, what_is_going_cannot_be_pinned) {
  Store store;
  PinTable table(store.pins->data());
  const wire::StoreLocation at = store.sealed(0);
  SegmentView view = store.view();
  EXPECT_TRUE(view.evict(at));
  EXPECT_EQ(table.pin(view, at).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(store.pinned(at));
  EXPECT_TRUE(view.release(at));
  const wire::StoreLocation next = store.sealed(0);
  EXPECT_EQ(table.pin(view, at).error().code, ErrorCode::kNotFound);  // The old generation.
  EXPECT_TRUE(table.pin(view, next));
  EXPECT_FALSE(store.pinned(at));
}

TEST(Pins, slots_are_used_again_and_run_out) {
  Store store;
  PinTable table(store.pins->data());
  const wire::StoreLocation at = store.sealed(0);
  std::vector<uint32_t> slots;
  for (size_t i = 1; i < kPinSlots; i++) {
    const Result<uint32_t> slot = table.pin(store.view(), at);
    ASSERT_TRUE(slot.has_value());
    slots.push_back(*slot);
  }
  EXPECT_EQ(table.pin(store.view(), at).error().code, ErrorCode::kRetryLater);
  table.unpin(slots[10]);
  table.unpin(slots[5]);
  EXPECT_EQ(*table.pin(store.view(), at), slots[5]);  // The lowest, so that scans stay short.
}

TEST(Pins, a_hostile_table_does_no_harm) {
  Store store;
  std::mt19937_64 random(1);
  for (size_t at = 0; at < kPinBytes; at += 8) {
    const uint64_t word = random();
    std::memcpy(store.pins->data() + at, &word, sizeof(word));
  }
  PinScan scan;
  scan.add(store.pins->data());
  EXPECT_LE(scan.size(), kPinSlots);
}

constexpr uint32_t kReadsWanted = 2000;

// The freer against a reader that pins, looks and unpins all the time. An extent that nobody has
// pinned is overwritten at once; a reader must never see that.
void recycle_until_read(Store& store) {
  SegmentView view = store.view();
  for (int round = 0; store.reads().load() < kReadsWanted && store.stop().load() == 0; round++) {
    const uint32_t entry = static_cast<uint32_t>(round % 2);
    const uint64_t offset = view.data_offset() + entry * 64;
    auto* words = reinterpret_cast<std::atomic<uint64_t>*>(store.memory->data() + offset);
    const wire::StoreLocation at = view.begin_write(entry, offset, 64, ProcessId{1});
    for (int i = 0; i < 8; i++) words[i].store(at.generation, std::memory_order_relaxed);
    view.seal(at);
    std::this_thread::yield();
    view.evict(at);
    while (store.pinned(at)) std::this_thread::yield();
    view.release(at);
    for (int i = 0; i < 8; i++) words[i].store(~uint64_t{0}, std::memory_order_relaxed);
  }
  store.stop().store(1);
}

// False if it saw bytes change under its pin.
bool read_all_the_time(Store& store) {
  SegmentView view = store.view();
  PinTable table(store.pins->data());
  while (store.stop().load() == 0) {
    for (uint32_t entry = 0; entry < 2; entry++) {
      const wire::StoreLocation at{
          kSegment, entry, view.generation(entry), 0, view.data_offset() + entry * 64, 64};
      const Result<uint32_t> slot = table.pin(view, at);
      if (!slot) continue;
      auto* words = reinterpret_cast<std::atomic<uint64_t>*>(store.memory->data() + at.offset);
      bool unchanged = true;
      for (int look = 0; look < 20 * 8; look++) {
        unchanged &= words[look % 8].load(std::memory_order_relaxed) == at.generation;
      }
      table.unpin(*slot);
      store.reads().fetch_add(1);
      if (!unchanged) {
        store.stop().store(1);
        return false;
      }
    }
  }
  return true;
}

TEST(Pins, a_reader_thread_never_sees_an_extent_reused) {
  Store store;
  bool unchanged = false;
  std::thread reader([&] { unchanged = read_all_the_time(store); });
  recycle_until_read(store);
  reader.join();
  EXPECT_TRUE(unchanged);
}

TEST(Pins, nor_does_a_reader_process) {
  Store store;
  const pid_t child = ::fork();
  if (child == 0) {
    store.map_in_child();
    ::_exit(read_all_the_time(store) ? 0 : 1);
  }
  recycle_until_read(store);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Pins, a_dead_process_leaves_its_pins_to_be_seen_or_dropped) {
  Store store;
  const wire::StoreLocation at = store.sealed(0);
  const pid_t child = ::fork();
  if (child == 0) {
    store.map_in_child();
    PinTable table(store.pins->data());
    ::_exit(table.pin(store.view(), at).has_value() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(store.pinned(at));  // Until the daemon leaves its home region out of the scan.
}

}  // namespace
}  // namespace mobula::shm
