#include "core/store/slab_allocator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

namespace mobula::store {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1ULL << 20;
constexpr SegmentId kOne{1};
constexpr SegmentId kTwo{2};

SegmentShape standard(uint64_t bytes = 64 * kMiB) {
  return {
      .data_offset = 135168, .data_bytes = bytes, .entry_count = shm::segment_entries_for(bytes)};
}
SegmentShape large(uint64_t bytes) {
  return {.data_offset = 8192, .data_bytes = bytes, .entry_count = 64, .for_one = true};
}

TEST(Slabs, an_empty_allocator_asks_for_a_segment) {
  SlabAllocator slabs({});
  EXPECT_FALSE(slabs.allocate(1000));
  EXPECT_EQ(slabs.segment_bytes_for(1000), kExtentBytesMin);
  EXPECT_EQ(slabs.segment_bytes_for(100 * kMiB + 1), 102 * kMiB);
  EXPECT_FALSE(slabs.wants_own_segment(32 * kMiB));
  EXPECT_TRUE(slabs.wants_own_segment(32 * kMiB + 1));
}

TEST(Slabs, extents_are_aligned_and_apart) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  const auto a = slabs.allocate(100'001);
  const auto b = slabs.allocate(1);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->offset % kExtentAlignment, 0);
  EXPECT_EQ(b->offset % kExtentAlignment, 0);
  EXPECT_GE(b->offset, a->offset + 100'001);
  EXPECT_NE(a->entry, b->entry);
  EXPECT_EQ(a->size, 100'001);
  EXPECT_EQ(slabs.bytes_in_use(), 100'002);
  slabs.check_invariants();
}

TEST(Slabs, what_was_freed_last_is_used_first) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  std::vector<Extent> extents;
  for (int i = 0; i < 10; i++) extents.push_back(*slabs.allocate(kMiB));
  EXPECT_TRUE(slabs.free(kOne, extents[3].entry, 1s));
  EXPECT_TRUE(slabs.free(kOne, extents[7].entry, 1s));
  EXPECT_EQ(slabs.allocate(kMiB)->offset, extents[7].offset);
  EXPECT_EQ(slabs.allocate(kMiB)->offset, extents[3].offset);
}

TEST(Slabs, recycled_space_is_preferred_to_fresh_space) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  const Extent first = *slabs.allocate(3 * kMiB);
  const Extent fence = *slabs.allocate(kMiB);
  EXPECT_TRUE(slabs.free(kOne, first.entry, 1s));
  EXPECT_EQ(slabs.allocate(2 * kMiB)->offset, first.offset);
  EXPECT_LT(slabs.allocate(kMiB)->offset, fence.offset);
}

TEST(Slabs, a_request_fails_only_if_no_block_is_large_enough) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(16 * kMiB), 0s));
  EXPECT_FALSE(slabs.allocate(16 * kMiB + 1));
  const auto all = slabs.allocate(16 * kMiB);
  ASSERT_TRUE(all);
  EXPECT_FALSE(slabs.allocate(1));
  EXPECT_TRUE(slabs.free(kOne, all->entry, 1s));
  // Many blocks of the same class, of which only the oldest is large enough.
  std::vector<Extent> blocks;
  blocks.push_back(*slabs.allocate(kMiB + 60'000));
  for (int i = 0; i < 12; i++) {
    blocks.push_back(*slabs.allocate(16 * 1024));
    blocks.push_back(*slabs.allocate(kMiB));
  }
  while (slabs.allocate(16 * 1024)) {
  }
  for (size_t i = 0; i < blocks.size(); i += 2) {
    EXPECT_TRUE(slabs.free(kOne, blocks[i].entry, 1s));
  }
  EXPECT_TRUE(slabs.allocate(kMiB + 60'000));
  slabs.check_invariants();
}

TEST(Slabs, a_large_object_has_a_segment_to_itself) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  EXPECT_FALSE(slabs.allocate(100 * kMiB));
  ASSERT_TRUE(slabs.add_segment(kTwo, large(100 * kMiB), 0s));
  const auto first = slabs.allocate(100 * kMiB);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->segment, kTwo);
  EXPECT_FALSE(slabs.allocate(100 * kMiB));
  EXPECT_EQ(slabs.allocate(1000)->segment, kOne);
  EXPECT_TRUE(slabs.free(kTwo, first->entry, 1s));
  EXPECT_EQ(slabs.allocate(1000)->segment, kOne);       // Never a small one in there,
  EXPECT_FALSE(slabs.allocate(40 * kMiB));              // nor one that wastes most of it.
  EXPECT_EQ(slabs.allocate(90 * kMiB)->segment, kTwo);  // It is warm: used again.
  slabs.check_invariants();
}

TEST(Slabs, empty_segments_go_back_after_a_while) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 1s));
  ASSERT_TRUE(slabs.add_segment(kTwo, large(64 * kMiB), 2s));
  const auto extent = slabs.allocate(kMiB);
  EXPECT_TRUE(slabs.take_empty(1s).empty());
  EXPECT_EQ(slabs.take_empty(2s), std::vector{kTwo});
  EXPECT_TRUE(slabs.free(kOne, extent->entry, 5s));
  EXPECT_TRUE(slabs.take_empty(4s).empty());
  EXPECT_EQ(slabs.take_empty(5s), std::vector{kOne});
  EXPECT_EQ(slabs.segment_count(), 0);
  EXPECT_FALSE(slabs.allocate(1));
  slabs.check_invariants();
}

TEST(Slabs, a_segment_can_vanish_with_its_content) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  ASSERT_TRUE(slabs.add_segment(kTwo, standard(), 0s));
  for (int i = 0; i < 90; i++) ASSERT_TRUE(slabs.allocate(kMiB));
  slabs.remove_segment(kOne);
  slabs.check_invariants();
  EXPECT_FALSE(slabs.free(kOne, 0, 1s));
  EXPECT_LE(slabs.bytes_in_use(), 64 * kMiB);
}

TEST(Slabs, wrong_frees_and_shapes_are_errors) {
  SlabAllocator slabs({});
  ASSERT_TRUE(slabs.add_segment(kOne, standard(), 0s));
  EXPECT_FALSE(slabs.add_segment(kOne, standard(), 0s));
  EXPECT_FALSE(slabs.add_segment(kTwo, {.data_offset = 0, .data_bytes = 0, .entry_count = 1}, 0s));
  EXPECT_FALSE(slabs.add_segment(kTwo, {.data_offset = 1, .data_bytes = 64, .entry_count = 1}, 0s));
  EXPECT_FALSE(
      slabs.add_segment(kTwo, {.data_offset = 64, .data_bytes = 64 * kMiB, .entry_count = 8}, 0s));
  const auto extent = slabs.allocate(100);
  EXPECT_TRUE(slabs.free(kOne, extent->entry, 1s));
  EXPECT_EQ(slabs.free(kOne, extent->entry, 1s).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(slabs.free(kOne, ~uint32_t{0}, 1s));
}

// Sizes as they come: log-uniform from 100 KB to 8 MB, kept at about 70 % full.
struct Churn {
  SlabAllocator slabs{{}};
  std::vector<Extent> live;
  uint64_t asked = 0;
  uint64_t failed_with_room = 0;
};

void churn(Churn& state, std::mt19937_64& random, int steps) {
  std::uniform_real_distribution<double> power(std::log2(100e3), std::log2(8e6));
  constexpr uint64_t kSegments = 4;
  for (uint32_t i = 1; i <= kSegments; i++) {
    ASSERT_TRUE(state.slabs.add_segment(SegmentId{i}, standard(), 0s));
  }
  const uint64_t target = kSegments * 64 * kMiB * 7 / 10;
  for (int step = 0; step < steps; step++) {
    if (state.slabs.bytes_in_use() < target) {
      const uint64_t size = static_cast<uint64_t>(std::exp2(power(random)));
      state.asked++;
      if (const auto extent = state.slabs.allocate(size)) {
        state.live.push_back(*extent);
      } else {
        state.failed_with_room++;
        state.slabs.check_invariants();
      }
    }
    if (state.slabs.bytes_in_use() >= target || random() % 4 == 0) {
      if (state.live.empty()) continue;
      std::swap(state.live[random() % state.live.size()], state.live.back());
      ASSERT_TRUE(state.slabs.free(state.live.back().segment, state.live.back().entry, 1s));
      state.live.pop_back();
    }
    if (step % 64 == 0) state.slabs.check_invariants();
  }
}

uint64_t seed() {
  const char* text = std::getenv("MOBULA_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

TEST(SlabsRandom, extents_never_overlap_and_fragmentation_stays_low) {
  std::mt19937_64 random(seed());
  Churn state;
  churn(state, random, 20'000);
  state.slabs.check_invariants();  // Blocks in use are apart, free ones merged.
  // At 70 % full, a request that finds no place means that free space is in pieces.
  const double failures =
      static_cast<double>(state.failed_with_room) / static_cast<double>(state.asked);
  RecordProperty("requests", std::to_string(state.asked));
  RecordProperty("failed_percent", std::to_string(failures * 100));
  EXPECT_LT(failures, 0.05);
  for (const Extent& extent : state.live) {
    EXPECT_TRUE(state.slabs.free(extent.segment, extent.entry, 2s));
  }
  EXPECT_EQ(state.slabs.take_empty(2s).size(), 4);  // Everything merged back into whole segments.
}

TEST(SlabsRandom, the_same_calls_give_the_same_places) {
  std::mt19937_64 one(seed());
  std::mt19937_64 two(seed());
  Churn first;
  Churn second;
  churn(first, one, 2000);
  churn(second, two, 2000);
  ASSERT_EQ(first.live.size(), second.live.size());
  for (size_t i = 0; i < first.live.size(); i++) {
    EXPECT_EQ(first.live[i].segment, second.live[i].segment);
    EXPECT_EQ(first.live[i].offset, second.live[i].offset);
  }
}

}  // namespace
}  // namespace mobula::store
