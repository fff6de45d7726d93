#include "core/store/spiller.h"

#include <gtest/gtest.h>

namespace mobula::store {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1ULL << 20;
constexpr ProcessId p{1};
constexpr ProcessId q{2};

template <typename T, typename List>
std::vector<T> take(List& effects) {
  std::vector<T> taken;
  std::erase_if(effects, [&](const auto& effect) {
    const T* match = std::get_if<T>(&effect);
    if (match != nullptr) taken.push_back(*match);
    return match != nullptr;
  });
  return taken;
}

// A store of 100 MiB. Values are 10 MiB, each in a segment of its own unless said otherwise.
class SpillerTest : public testing::Test {
 protected:
  void TearDown() override {
    spiller.check_invariants();
    books.check_invariants();
  }

  CreateSegment grant(ProcessId process, uint64_t bytes) {
    EXPECT_TRUE(books.request({process, ++requests, bytes}, {}, now, effects));
    const auto created = take<CreateSegment>(effects);
    EXPECT_EQ(created.size(), 1);
    return created.empty() ? CreateSegment{} : created[0];
  }
  wire::StoreLocation value(SegmentId segment, uint32_t entry = 0) {
    const uint64_t offset = shm::segment_data_offset(shm::segment_entries_for(10 * kMiB));
    return {segment, entry, 1, 0, offset, 10 * kMiB};
  }
  wire::StoreLocation adopted(ProcessId process) {
    const wire::StoreLocation made = value(grant(process, 10 * kMiB).segment);
    spiller.adopt(made, now += 1ms);
    return made;
  }
  void step() {
    spiller.step(now += 1ms,
                 {.headroom = [] { return Headroom{}; },
                  .disk =
                      [this] {
                        return DiskRoom{disk_left, "the disk"};
                      },
                  .is_pinned = [this](const auto& place) { return name_of(place) == pinned; }},
                 effects, spill);
  }
  // Somebody else wants so much, and there is no room.
  void want(uint64_t bytes) {
    EXPECT_TRUE(books.request({q, ++requests, bytes}, {}, now, effects));
    EXPECT_TRUE(take<CreateSegment>(effects).empty());
    take<AskForEmpty>(effects);
    step();
  }
  void written(const WriteOut& write) {
    WriteOutcome outcome;
    outcome.checksums.resize(write.from.size(), 7);
    spiller.on_written(write.file, outcome, now += 1ms, effects, spill);
  }
  void evict(const wire::StoreLocation& gone) {
    want(50 * kMiB);
    for (const auto& write : take<WriteOut>(spill)) written(write);
    step();
    for (const auto& one : take<TryEvict>(spill)) {
      if (name_of(one.location) == name_of(gone)) {
        spiller.on_evicted(one.value, now, effects, spill);
      } else {
        spiller.on_kept(one.value, now, effects, spill);
      }
    }
    for (uint64_t i = 1; i <= requests; ++i) books.cancel(q, i);
    take<ReleaseExtent>(effects);
    take<AskForEmpty>(effects);
    take<WriteOut>(spill);
  }
  Spiller::Seen::Where where(const wire::StoreLocation& name) { return spiller.look(name)->where; }

  StoreBooks books{{.capacity_bytes = 100 * kMiB}};
  Spiller spiller{{}, books};
  Effects effects;
  SpillEffects spill;
  Instant now{1s};
  uint64_t requests = 0;
  uint64_t disk_left = ~uint64_t{0};
  ValueName pinned{};
  using Where = Spiller::Seen::Where;
};

TEST_F(SpillerTest, nothing_is_written_while_there_is_room) {
  for (int i = 0; i < 3; ++i) adopted(p);
  step();
  EXPECT_TRUE(spill.empty());
}

TEST_F(SpillerTest, above_the_threshold_the_oldest_are_copied_and_stay_in_memory) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 85 * kMiB) values.push_back(adopted(p));
  step();
  const auto writes = take<WriteOut>(spill);
  ASSERT_EQ(writes.size(), 1);
  EXPECT_EQ(name_of(writes[0].from[0]), name_of(values[0]));
  written(writes[0]);
  EXPECT_EQ(where(values[0]), Where::kMemoryAndDisk);
  step();
  EXPECT_TRUE(take<TryEvict>(spill).empty());
}

TEST_F(SpillerTest, who_waits_gets_the_memory_of_the_least_recently_used) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  ASSERT_TRUE(
      spiller.restore(q, values[0], now, spill));  // Looked at: it is not the oldest any more.
  EXPECT_EQ(take<TellPlace>(spill).size(), 1);
  want(40 * kMiB);
  const auto writes = take<WriteOut>(spill);
  ASSERT_FALSE(writes.empty());
  EXPECT_EQ(name_of(writes[0].from[0]), name_of(values[1]));
  written(writes[0]);
  step();
  const auto evicted = take<TryEvict>(spill);
  ASSERT_FALSE(evicted.empty());
  EXPECT_EQ(evicted[0].value, name_of(values[1]));
  spiller.on_evicted(evicted[0].value, now, effects, spill);
  EXPECT_EQ(where(values[1]), Where::kDisk);
  EXPECT_EQ(take<ReleaseExtent>(effects).size(), 1);
  for (size_t i = 1; i < evicted.size(); ++i) {
    spiller.on_kept(evicted[i].value, now, effects, spill);
  }
}

TEST_F(SpillerTest, who_comes_after_one_that_was_served_need_not_wait_either) {
  while (books.granted_bytes() < 88 * kMiB) adopted(p);
  for (int values = 0; values < 2; ++values) {
    want(20 * kMiB);
    for (const auto& write : take<WriteOut>(spill)) written(write);
    step();
  }
  size_t evictions = 0;
  // The time that is given to what was evicted to be put to use is not over.
  for (int rounds = 0; rounds < 2; ++rounds) {
    for (uint64_t i = 1; i <= requests; ++i) books.cancel(q, i);
    want(10 * kMiB);
    const auto evicted = take<TryEvict>(spill);
    evictions += evicted.empty() ? 0 : 1;
    for (const auto& one : evicted) spiller.on_evicted(one.value, now, effects, spill);
  }
  EXPECT_EQ(evictions, 2);
}

TEST_F(SpillerTest, what_is_pinned_stays) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  pinned = name_of(values[0]);
  want(40 * kMiB);
  for (const auto& write : take<WriteOut>(spill)) {
    for (const auto& from : write.from) EXPECT_NE(name_of(from), pinned);
  }
}

TEST_F(SpillerTest, processes_are_asked_to_share_what_only_they_know) {
  for (int i = 0; i < 3; ++i) grant(p, 30 * kMiB);  // With private values in them, perhaps.
  EXPECT_TRUE(books.request({q, ++requests, 30 * kMiB}, {}, now, effects));
  take<AskForEmpty>(effects);
  step();
  const auto asked = take<AskForEmpty>(effects);
  ASSERT_EQ(asked.size(), 1);
  EXPECT_EQ(asked[0].process, p);
  EXPECT_GE(asked[0].share_bytes, 30 * kMiB);
}

TEST_F(SpillerTest, a_value_on_disk_comes_back_into_a_segment_of_the_daemons) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  evict(values[0]);
  ASSERT_EQ(where(values[0]), Where::kDisk);
  ASSERT_TRUE(spiller.restore(q, values[0], now, spill));
  step();
  const auto created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 1);
  EXPECT_EQ(created[0].process, kDaemonProcess);
  spiller.on_own_segment(
      created[0].segment,
      {4096, created[0].data_bytes, shm::segment_entries_for(created[0].data_bytes), false}, now);
  step();
  const auto reads = take<ReadIn>(spill);
  ASSERT_EQ(reads.size(), 1);
  EXPECT_EQ(reads[0].from.checksum, 7);
  const wire::StoreLocation place{reads[0].segment, reads[0].entry, 3, 0,
                                  reads[0].offset,  10 * kMiB};
  spiller.on_read(reads[0].value, {true, "", place}, now, effects, spill);
  const auto told = take<TellPlace>(spill);
  ASSERT_EQ(told.size(), 1);
  EXPECT_EQ(told[0].process, q);
  EXPECT_EQ(name_of(told[0].place), name_of(place));
  EXPECT_EQ(where(values[0]), Where::kMemoryAndDisk);
}

TEST_F(SpillerTest, bytes_that_cannot_be_read_back_are_lost_and_everybody_who_asks_is_told_why) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  evict(values[0]);
  ASSERT_TRUE(spiller.restore(q, values[0], now, spill));
  step();
  const auto created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 1);
  spiller.on_own_segment(
      created[0].segment,
      {4096, created[0].data_bytes, shm::segment_entries_for(created[0].data_bytes), false}, now);
  step();
  const auto reads = take<ReadIn>(spill);
  ASSERT_EQ(reads.size(), 1);
  const wire::StoreLocation place{reads[0].segment, reads[0].entry, 3, 0,
                                  reads[0].offset,  10 * kMiB};
  spiller.on_read(reads[0].value, {false, "a bit has flipped", place}, now, effects, spill);
  EXPECT_EQ(take<ValueLost>(spill).size(), 1);
  EXPECT_EQ(take<TellNoPlace>(spill).at(0).why, "a bit has flipped");
  ASSERT_TRUE(spiller.restore(p, values[0], now, spill));
  EXPECT_EQ(take<TellNoPlace>(spill).at(0).why, "a bit has flipped");
  spiller.free(values[0], effects, spill);
  EXPECT_FALSE(spiller.knows(values[0]));
}

TEST_F(SpillerTest, one_of_those_who_wait_for_room_is_refused_and_the_others_wait_on) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  evict(values[0]);
  ASSERT_TRUE(spiller.restore(p, values[0], now, spill));
  ASSERT_TRUE(spiller.restore(q, values[0], now, spill));
  EXPECT_EQ(spiller.waiting_for_room(), (std::vector{p, q}));
  spiller.refuse_restores(q, "all wait", spill);
  const auto refused = take<TellNoPlace>(spill);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_EQ(refused[0].process, q);
  EXPECT_EQ(refused[0].problem, RestoreProblem::kStoreFull);
  EXPECT_EQ(spiller.waiting_for_room(), std::vector{p});
  spiller.check_invariants();
}

TEST_F(SpillerTest, a_value_in_a_file_stays_there_until_it_is_freed) {
  const Headroom disk{.files = DiskRoom{1000 * kMiB, "the disk"}};
  EXPECT_TRUE(books.request({p, ++requests, 200 * kMiB}, disk, now, effects));
  const auto created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 1);
  wire::StoreLocation made = value(created[0].segment);
  made.offset = shm::segment_data_offset(shm::segment_entries_for(200 * kMiB));
  spiller.adopt(made, now += 1ms);
  EXPECT_EQ(spiller.look(made)->where, Spiller::Seen::Where::kFile);
  EXPECT_EQ(spiller.totals().in_file_values, 1);
  EXPECT_EQ(spiller.totals().memory_bytes, 0);
  grant(q, 90 * kMiB);  // What is in a file takes no room.
  want(20 * kMiB);
  EXPECT_TRUE(spill.empty()) << "it is neither written nor evicted";
  books.cancel(q, requests);
  EXPECT_TRUE(spiller.restore(q, made, now, spill));
  EXPECT_EQ(take<TellPlace>(spill).size(), 1);
  spiller.free(made, effects, spill);
  EXPECT_EQ(take<MarkEvicting>(effects).size(), 1);
  spiller.on_unpinned(made, now, effects);
  EXPECT_EQ(take<ReleaseExtent>(effects).size(), 1);
  EXPECT_EQ(spiller.totals().in_file_values, 0);
}

TEST_F(SpillerTest, a_full_disk_is_said_and_tried_again_later) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  disk_left = 0;
  want(40 * kMiB);
  EXPECT_TRUE(take<WriteOut>(spill).empty());
  EXPECT_TRUE(spiller.disk_is_full());
  EXPECT_NE(spiller.trouble().find("the disk"), std::string::npos);
  disk_left = ~uint64_t{0};
  now += 2s;
  step();
  const auto writes = take<WriteOut>(spill);
  ASSERT_FALSE(writes.empty());
  written(writes[0]);
  EXPECT_FALSE(spiller.disk_is_full());
  EXPECT_TRUE(spiller.trouble().empty());
}

TEST_F(SpillerTest, a_freed_value_takes_its_part_of_the_file_with_it) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  evict(values[0]);
  spiller.free(values[0], effects, spill);
  EXPECT_EQ(take<PunchHole>(spill).size() + take<RemoveFile>(spill).size(), 1);
}

TEST_F(SpillerTest, a_value_freed_while_it_is_written_goes_afterwards) {
  std::vector<wire::StoreLocation> values;
  while (books.granted_bytes() < 70 * kMiB) values.push_back(adopted(p));
  want(40 * kMiB);
  const auto writes = take<WriteOut>(spill);
  ASSERT_FALSE(writes.empty());
  const wire::StoreLocation first = writes[0].from[0];
  spiller.free(first, effects, spill);
  EXPECT_TRUE(take<MarkEvicting>(effects).empty());  // It is being read.
  written(writes[0]);
  EXPECT_EQ(take<MarkEvicting>(effects).size(), 1);
  EXPECT_FALSE(spiller.knows(first));
}

}  // namespace
}  // namespace mobula::store
