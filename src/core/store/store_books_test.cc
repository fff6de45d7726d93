#include "core/store/store_books.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "shm/segment.h"

namespace mobula::store {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1ULL << 20;
constexpr uint64_t kGiB = 1ULL << 30;
constexpr ProcessId p{1};
constexpr ProcessId q{2};
const Headroom kPlenty{};  // Nothing measured: no limit but the store's own.

template <typename T>
std::vector<T> take(Effects& effects) {
  std::vector<T> taken;
  std::erase_if(effects, [&](const Effect& effect) {
    const T* match = std::get_if<T>(&effect);
    if (match != nullptr) taken.push_back(*match);
    return match != nullptr;
  });
  return taken;
}

class Books : public testing::Test {
 protected:
  ~Books() override { books.check_invariants(); }

  CreateSegment grant(ProcessId process, uint64_t bytes, const Headroom& headroom = kPlenty) {
    EXPECT_TRUE(books.request({process, ++requests, bytes}, headroom, 0s, effects));
    const auto created = take<CreateSegment>(effects);
    EXPECT_EQ(created.size(), 1);
    return created.empty() ? CreateSegment{} : created[0];
  }
  wire::StoreLocation extent(SegmentId segment, uint32_t entry) {
    return {segment, entry, 1, 0, 1 << 20, 100};
  }
  void expect_no_more() { EXPECT_TRUE(effects.empty()); }

  StoreBooks books{{.capacity_bytes = kGiB}};
  Effects effects;
  uint64_t requests = 0;
};

TEST_F(Books, a_small_request_gets_a_standard_segment) {
  const CreateSegment created = grant(p, 1000);
  EXPECT_EQ(created.data_bytes, 64 * kMiB);
  EXPECT_EQ(created.process, p);
  EXPECT_EQ(created.request, 1);
  EXPECT_GT(books.granted_bytes(), 64 * kMiB);
  expect_no_more();
}

TEST_F(Books, a_large_object_gets_what_it_needs) {
  EXPECT_EQ(grant(p, 100 * kMiB + 1).data_bytes, 102 * kMiB);
}

TEST_F(Books, segments_get_smaller_as_the_store_fills) {
  grant(p, 700 * kMiB);
  const uint64_t later = grant(q, 1000).data_bytes;
  EXPECT_LT(later, 64 * kMiB);
  EXPECT_GE(later, 2 * kMiB);
}

TEST_F(Books, what_can_never_fit_is_refused_at_once) {
  EXPECT_TRUE(books.request({p, 1, 2 * kGiB}, kPlenty, 0s, effects));
  const auto refused = take<RefuseSegment>(effects);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_NE(refused[0].message.find("object_store_memory"), std::string::npos);
  EXPECT_TRUE(books.request({p, 1, ~uint64_t{0}}, kPlenty, 0s, effects));
  EXPECT_EQ(take<RefuseSegment>(effects).size(), 1);
  EXPECT_FALSE(books.request({p, 1, 0}, kPlenty, 0s, effects));
  expect_no_more();
}

TEST_F(Books, a_request_waits_for_room_and_others_are_asked_for_empty_segments) {
  const CreateSegment first = grant(p, 900 * kMiB);
  EXPECT_TRUE(books.request({q, 7, 200 * kMiB}, kPlenty, 1s, effects));
  EXPECT_EQ(take<AskForEmpty>(effects).at(0).process, p);
  expect_no_more();
  EXPECT_EQ(books.waiting(), 1);
  EXPECT_TRUE(books.return_segment(p, first.segment, effects));
  EXPECT_EQ(take<DestroySegment>(effects).size(), 1);
  books.tick(kPlenty, 2s, effects);
  EXPECT_EQ(take<CreateSegment>(effects).at(0).request, 7);
  EXPECT_EQ(books.waiting(), 0);
  expect_no_more();
}

TEST_F(Books, everybody_with_segments_is_asked_for_empty_ones_when_memory_is_short) {
  books.reclaim(effects);
  expect_no_more();
  grant(p, 1000);
  grant(q, 1000);
  books.reclaim(effects);
  const auto asked = take<AskForEmpty>(effects);
  ASSERT_EQ(asked.size(), 2);
  EXPECT_EQ(asked[0].process, p);
  EXPECT_EQ(asked[1].process, q);
  EXPECT_EQ(asked[0].share_bytes, 0);
  expect_no_more();
}

TEST_F(Books, a_request_that_waited_too_long_is_told_who_has_what) {
  grant(p, 900 * kMiB);
  EXPECT_TRUE(books.request({q, 7, 200 * kMiB}, kPlenty, 1s, effects));
  effects.clear();
  books.tick(kPlenty, 5s, effects);
  EXPECT_TRUE(take<RefuseSegment>(effects).empty());
  effects.clear();
  books.tick(kPlenty, 6s, effects);
  const auto refused = take<RefuseSegment>(effects);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_NE(refused[0].message.find("process 1"), std::string::npos);
  expect_no_more();
}

TEST_F(Books, a_small_request_passes_a_large_one_that_waits) {
  grant(p, 900 * kMiB);
  EXPECT_TRUE(books.request({q, 1, 200 * kMiB}, kPlenty, 0s, effects));
  effects.clear();
  EXPECT_EQ(grant(q, 1000).process, q);
}

TEST_F(Books, growth_stops_before_the_machine_runs_out) {
  // 256 MiB stay reserved. Of the granted 64 MiB nothing has been touched: they are spoken for.
  grant(p, 1000);
  const Headroom tight{.memory_available = 400 * kMiB, .store_resident = 0};
  EXPECT_TRUE(books.request({q, 1, 100 * kMiB}, tight, 0s, effects));
  EXPECT_TRUE(take<CreateSegment>(effects).empty());
  const Headroom touched{.memory_available = 400 * kMiB, .store_resident = 64 * kMiB};
  books.tick(touched, 1s, effects);
  EXPECT_EQ(take<CreateSegment>(effects).size(), 1);
}

TEST_F(Books, the_cgroups_limit_counts_too) {
  const Headroom tight{.memory_available = 64 * kGiB, .cgroup_available = 300 * kMiB};
  EXPECT_TRUE(books.request({p, 1, 100 * kMiB}, tight, 0s, effects));
  EXPECT_TRUE(take<CreateSegment>(effects).empty());
  books.tick(tight, 10s, effects);
  const auto refused = take<RefuseSegment>(effects);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_NE(refused[0].message.find("cgroup 300.0 MiB"), std::string::npos);
}

TEST_F(Books, memory_is_granted_ahead_of_its_use_only_while_much_is_left) {
  const auto is_granted_ahead = [&](uint64_t bytes, const Headroom& headroom) {
    EXPECT_TRUE(books.request({p, ++requests, bytes, true}, headroom, 0s, effects));
    const size_t granted = take<CreateSegment>(effects).size();
    const auto refused = take<RefuseSegment>(effects);
    EXPECT_EQ(granted + refused.size(), 1);  // Answered at once.
    EXPECT_TRUE(refused.empty() || bytes > kGiB || refused[0].ahead);
    expect_no_more();  // Nobody is asked for memory.
    EXPECT_EQ(books.waiting(), 0);
    return granted == 1;
  };
  EXPECT_FALSE(is_granted_ahead(2 * kGiB, kPlenty));
  EXPECT_FALSE(is_granted_ahead(600 * kMiB, kPlenty));
  EXPECT_TRUE(is_granted_ahead(200 * kMiB, kPlenty));
  EXPECT_TRUE(is_granted_ahead(200 * kMiB, kPlenty));
  EXPECT_FALSE(is_granted_ahead(200 * kMiB, kPlenty));  // More than half of the store.
  const uint64_t promised = books.granted_bytes();
  const Headroom tight{.memory_available = promised + 256 * kMiB + 150 * kMiB, .store_resident = 0};
  EXPECT_FALSE(is_granted_ahead(80 * kMiB, tight));  // As much again is not there.
  EXPECT_TRUE(is_granted_ahead(70 * kMiB, tight));
}

TEST_F(Books, nothing_is_granted_ahead_while_somebody_waits) {
  const Headroom tight{.memory_available = 300 * kMiB};
  EXPECT_TRUE(books.request({q, 1, 100 * kMiB}, tight, 0s, effects));
  effects.clear();
  EXPECT_TRUE(books.request({p, 2, 10 * kMiB, true}, kPlenty, 0s, effects));
  EXPECT_EQ(take<RefuseSegment>(effects).at(0).request, 2);
  EXPECT_EQ(books.waiting(), 1);
}

TEST_F(Books, a_segment_outlives_its_writer_while_shared_objects_need_it) {
  const CreateSegment needed = grant(p, 1000);
  const CreateSegment unneeded = grant(p, 1000);
  EXPECT_TRUE(books.open(q, needed.segment));
  EXPECT_TRUE(books.check_location(extent(needed.segment, 0)));
  books.adopt(extent(needed.segment, 0));
  books.adopt(extent(needed.segment, 1));
  books.on_process_buried(p, effects);
  const auto destroyed = take<DestroySegment>(effects);
  ASSERT_EQ(destroyed.size(), 1);
  EXPECT_EQ(destroyed[0].segment, unneeded.segment);
  for (uint32_t entry : {0U, 1U}) {
    books.free_extent(extent(needed.segment, entry), effects);
    EXPECT_EQ(take<MarkEvicting>(effects).size(), 1);
    ASSERT_EQ(books.evicting().size(), 1);
    books.on_unpinned(books.evicting().front(), effects);
    EXPECT_EQ(take<ReleaseExtent>(effects).at(0).writer, kDaemonProcess);
  }
  const auto last = take<DestroySegment>(effects);
  ASSERT_EQ(last.size(), 1);
  EXPECT_EQ(last[0].readers, std::vector{q});
  EXPECT_EQ(books.granted_bytes(), 0);
  expect_no_more();
}

TEST_F(Books, a_freed_extent_goes_back_to_its_living_writer) {
  const CreateSegment created = grant(p, 1000);
  books.adopt(extent(created.segment, 3));
  EXPECT_FALSE(books.return_segment(p, created.segment, effects));
  books.free_extent(extent(created.segment, 3), effects);
  EXPECT_FALSE(books.return_segment(p, created.segment, effects));  // A reader may have it pinned.
  take<MarkEvicting>(effects);
  books.on_unpinned(extent(created.segment, 3), effects);
  EXPECT_EQ(take<ReleaseExtent>(effects).at(0).writer, p);
  EXPECT_FALSE(books.return_segment(q, created.segment, effects));
  EXPECT_TRUE(books.return_segment(p, created.segment, effects));
  EXPECT_EQ(take<DestroySegment>(effects).size(), 1);
  expect_no_more();
}

TEST_F(Books, a_segment_that_could_not_be_made_is_taken_back) {
  const CreateSegment created = grant(p, 1000);
  books.on_create_failed(created, {ErrorCode::kRetryLater, "out of descriptors"}, effects);
  EXPECT_EQ(take<RefuseSegment>(effects).at(0).request, created.request);
  EXPECT_EQ(books.granted_bytes(), 0);
}

TEST_F(Books, the_requests_of_a_buried_process_are_forgotten) {
  grant(p, 900 * kMiB);
  EXPECT_TRUE(books.request({q, 1, 200 * kMiB}, kPlenty, 0s, effects));
  effects.clear();
  books.on_process_buried(q, effects);
  EXPECT_EQ(books.waiting(), 0);
  expect_no_more();
}

TEST_F(Books, places_outside_of_the_store_are_refused) {
  const CreateSegment created = grant(p, 1000);
  const auto ok = [&](wire::StoreLocation at) { return books.check_location(at).has_value(); };
  const uint64_t start = shm::segment_data_offset(shm::kSegmentEntriesMax);
  EXPECT_TRUE(ok({created.segment, 0, 1, 0, start, 64 * kMiB}));
  EXPECT_FALSE(ok({SegmentId{99}, 0, 1, 0, start, 64}));
  EXPECT_FALSE(ok({created.segment, 4096, 1, 0, start, 64}));
  EXPECT_FALSE(ok({created.segment, 0, 1, 0, start, 0}));
  EXPECT_FALSE(ok({created.segment, 0, 1, 0, 0, 64}));
  EXPECT_FALSE(ok({created.segment, 0, 1, 0, start + 64, 64 * kMiB}));
  EXPECT_FALSE(ok({created.segment, 0, 1, 0, start + 64, ~uint64_t{0}}));
  EXPECT_FALSE(books.open(p, SegmentId{99}));
  books.adopt(extent(SegmentId{99}, 0));  // Ignored, as is freeing what nobody adopted.
  books.free_extent(extent(created.segment, 0), effects);
  expect_no_more();
}

TEST_F(Books, a_place_of_the_daemons_own_is_nothing_that_a_process_can_name) {
  const CreateSegment created = grant(kDaemonProcess, 1000);
  EXPECT_FALSE(books.check_location(extent(created.segment, 0)));
  EXPECT_TRUE(books.check_location(extent(grant(p, 1000).segment, 0)));
}

TEST_F(Books, nothing_that_fits_no_store_is_granted_ahead) {
  for (const uint64_t bytes : {2048 * kMiB, ~uint64_t{0}, ~uint64_t{0} - kMiB}) {
    EXPECT_TRUE(books.request({p, 1, bytes, true}, kPlenty, 0s, effects));
    EXPECT_TRUE(take<RefuseSegment>(effects).at(0).ahead);
  }
  EXPECT_EQ(books.granted_bytes(), 0);
  expect_no_more();
}

// ---- files -------------------------------------------------------------------------------------

Headroom with_disk(uint64_t bytes) { return {.files = DiskRoom{bytes, "9 % of a disk in use"}}; }

TEST_F(Books, what_is_larger_than_the_store_goes_to_a_file_at_once) {
  const CreateSegment created = grant(p, 3 * kGiB, with_disk(10 * kGiB));
  EXPECT_TRUE(created.in_file);
  EXPECT_EQ(created.data_bytes, 3 * kGiB);
  EXPECT_TRUE(books.is_in_file(created.segment));
  EXPECT_EQ(books.granted_bytes(), 0);
  EXPECT_GT(books.in_file_bytes(), 3 * kGiB);
  EXPECT_TRUE(books.return_segment(p, created.segment, effects));
  EXPECT_EQ(books.in_file_bytes(), 0);
  EXPECT_EQ(take<DestroySegment>(effects).size(), 1);
}

TEST_F(Books, what_no_disk_can_take_is_refused_as_a_full_disk) {
  EXPECT_TRUE(books.request({p, 1, 3 * kGiB}, with_disk(2 * kGiB), 0s, effects));
  const auto refused = take<RefuseSegment>(effects);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_TRUE(refused[0].disk_full);
  EXPECT_NE(refused[0].message.find("9 % of a disk"), std::string::npos);
  EXPECT_TRUE(books.request({p, 2, ~uint64_t{0}}, with_disk(~uint64_t{0}), 0s, effects));
  EXPECT_EQ(take<RefuseSegment>(effects).size(), 1);
}

TEST_F(Books, who_waits_without_any_progress_goes_to_a_file_and_those_after_it_sooner) {
  const Headroom disk = with_disk(100 * kGiB);
  grant(p, 900 * kMiB, disk);
  EXPECT_TRUE(books.request({q, 7, 200 * kMiB}, disk, 0s, effects));
  books.tick(disk, 1900ms, effects);
  EXPECT_TRUE(take<CreateSegment>(effects).empty());
  books.tick(disk, 2s, effects);
  auto created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 1);
  EXPECT_TRUE(created[0].in_file);
  // Nothing has become free since.
  EXPECT_TRUE(books.request({q, 8, 200 * kMiB}, disk, 3s, effects));
  books.tick(disk, 3100ms, effects);
  EXPECT_EQ(take<CreateSegment>(effects).size(), 1);
  books.on_progress(4s);
  EXPECT_TRUE(books.request({q, 9, 200 * kMiB}, disk, 5s, effects));
  books.tick(disk, 5100ms, effects);
  EXPECT_TRUE(take<CreateSegment>(effects).empty());
  books.cancel(q, 9);
}

TEST_F(Books, who_waits_for_others_that_work_goes_to_a_file_after_longer) {
  const Headroom disk = with_disk(100 * kGiB);
  grant(p, 900 * kMiB, disk);
  EXPECT_TRUE(books.request({q, 7, 200 * kMiB}, disk, 0s, effects));
  for (Instant now = 0s; now < 9900ms; now += 100ms) {
    books.on_work(now);
    books.tick(disk, now, effects);
    EXPECT_TRUE(take<CreateSegment>(effects).empty());
  }
  books.tick(disk, 10s, effects);
  EXPECT_EQ(take<CreateSegment>(effects).size(), 1);
  effects.clear();
}

TEST_F(Books, a_disk_that_moves_values_delays_a_file_until_the_deadline_at_most) {
  const Headroom disk = with_disk(100 * kGiB);
  grant(p, 900 * kMiB, disk);
  EXPECT_TRUE(books.request({q, 7, 200 * kMiB}, disk, 0s, effects));
  books.on_moving(4900ms);
  books.tick(disk, 4900ms, effects);
  EXPECT_TRUE(take<CreateSegment>(effects).empty());
  books.tick(disk, 5s, effects);
  EXPECT_EQ(take<CreateSegment>(effects).size(), 1);
  effects.clear();
}

TEST_F(Books, small_values_share_a_file_unless_the_disk_is_nearly_full) {
  const Headroom disk = with_disk(100 * kGiB);
  grant(p, 1000 * kMiB, disk);
  EXPECT_TRUE(books.request({q, 7, 30 * kMiB}, disk, 0s, effects));
  EXPECT_TRUE(books.request({q, 8, 20 * kMiB}, disk, 0s, effects));
  books.tick(with_disk(35 * kMiB), 2s, effects);
  auto created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 2);
  EXPECT_EQ(created[0].data_bytes, 20 * kMiB);
  EXPECT_FALSE(created[0].in_file) << "there was memory for it";
  EXPECT_EQ(created[1].data_bytes, 30 * kMiB);
  EXPECT_TRUE(books.request({q, 9, 5 * kMiB}, disk, 2s, effects));
  books.tick(with_disk(100 * kGiB), 4s, effects);
  created = take<CreateSegment>(effects);
  ASSERT_EQ(created.size(), 1);
  EXPECT_EQ(created[0].data_bytes, 16 * kMiB);
  EXPECT_FALSE(books.go_to_file(p, disk, effects));
  effects.clear();
}

TEST_F(Books, files_have_an_upper_bound) {
  StoreBooks few{{.capacity_bytes = kMiB, .files_bytes_max = 16 * kMiB, .files_max = 2}};
  const Headroom disk = with_disk(100 * kGiB);
  for (uint64_t number = 0; number < 3; ++number) {
    EXPECT_TRUE(few.request({p, number, 4 * kMiB}, disk, 0s, effects));
  }
  EXPECT_EQ(take<CreateSegment>(effects).size(), 2);
  EXPECT_EQ(take<RefuseSegment>(effects).size(), 1);
  few.on_process_buried(p, effects);
  EXPECT_TRUE(few.request({p, 9, 17 * kMiB}, disk, 0s, effects));
  EXPECT_EQ(take<RefuseSegment>(effects).size(), 1);
  few.check_invariants();
  effects.clear();
}

TEST_F(Books, a_file_that_could_not_be_made_is_taken_back) {
  const CreateSegment created = grant(p, 3 * kGiB, with_disk(10 * kGiB));
  books.on_create_failed(created, {ErrorCode::kDiskFull, "no blocks left"}, effects);
  const auto refused = take<RefuseSegment>(effects);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_TRUE(refused[0].disk_full);
  EXPECT_EQ(books.in_file_bytes(), 0);
}

TEST_F(Books, nothing_goes_to_a_file_ahead_of_its_use) {
  EXPECT_TRUE(books.request({.process = p, .number = 1, .bytes = 2 * kGiB, .ahead = true},
                            with_disk(100 * kGiB), 0s, effects));
  EXPECT_EQ(take<RefuseSegment>(effects).size(), 1);
  expect_no_more();
}

// Processes that ask, return, share and die, in random order.
class BooksHistory {
 public:
  explicit BooksHistory(uint64_t seed) : random_(seed) {}

  void step() {
    now_ += std::chrono::milliseconds(random_() % 200);
    Headroom headroom{.memory_available = 300 * kMiB + random_() % kGiB,
                      .store_resident = books_.granted_bytes() / 2};
    if (random_() % 3 > 0) headroom.files = DiskRoom{random_() % (2 * kGiB), "a disk"};
    switch (random_() % 9) {
      case 0: {
        const ProcessId process{next_process_ + static_cast<uint32_t>(random_() % 3)};
        asked_++;
        const SegmentRequest request{process, asked_, 1 + random_() % (600 * kMiB),
                                     random_() % 4 == 0};
        ASSERT_TRUE(books_.request(request, headroom, now_, effects_));
        break;
      }
      case 1:
        share();
        break;
      case 2:
        free_some();
        break;
      case 3:
        if (!books_.evicting().empty()) {
          books_.on_unpinned(books_.evicting()[random_() % books_.evicting().size()], effects_);
        }
        break;
      case 4:
        if (!segments_.empty()) {
          const Own own = segments_[random_() % segments_.size()];
          (void)books_.return_segment(own.writer, own.segment, effects_);  // Refused if shared.
        }
        break;
      case 5:
        books_.tick(headroom, now_, effects_);
        break;
      case 6:
        books_.on_work(now_);
        break;
      case 7:
        (void)books_.go_to_file(ProcessId{next_process_}, headroom, effects_);
        break;
      default:
        if (random_() % 20 == 0) books_.on_process_buried(ProcessId{next_process_++}, effects_);
    }
    carry_out();
    books_.check_invariants();
    ASSERT_EQ(books_.segment_count(), segments_.size());
  }

  uint64_t asked() const { return asked_; }
  uint64_t answers() const { return answers_; }
  uint64_t in_files() const { return in_files_; }

 private:
  struct Own {
    SegmentId segment;
    ProcessId writer;
  };

  void share() {
    if (segments_.empty()) return;
    const SegmentId segment = segments_[random_() % segments_.size()].segment;
    shared_.push_back(
        {segment, static_cast<uint32_t>(random_() % 64), generation_++, 0, 1 << 20, 64});
    books_.adopt(shared_.back());
  }
  void free_some() {
    if (shared_.empty()) return;
    std::swap(shared_[random_() % shared_.size()], shared_.back());
    books_.free_extent(shared_.back(), effects_);
    shared_.pop_back();
  }
  void carry_out() {
    for (const CreateSegment& created : take<CreateSegment>(effects_)) {
      if (created.in_file) in_files_++;
      if (created.in_file && random_() % 4 == 0) {
        books_.on_create_failed(created, {ErrorCode::kDiskFull, "no blocks left"}, effects_);
        continue;
      }
      segments_.push_back({created.segment, created.process});
      answers_++;
    }
    answers_ += take<RefuseSegment>(effects_).size();
    for (const DestroySegment& gone : take<DestroySegment>(effects_)) {
      const auto is_it = [&](const Own& own) { return own.segment == gone.segment; };
      ASSERT_EQ(std::erase_if(segments_, is_it), 1);
    }
    effects_.clear();
  }

  std::mt19937_64 random_;
  StoreBooks books_{{.capacity_bytes = 512 * kMiB, .waiting_max = 4}};
  Effects effects_;
  std::vector<Own> segments_;
  std::vector<wire::StoreLocation> shared_;
  Instant now_{0};
  uint64_t asked_ = 0;
  uint64_t answers_ = 0;
  uint64_t in_files_ = 0;
  uint32_t next_process_ = 1;
  uint32_t generation_ = 1;
};

TEST(BooksRandom, the_books_always_balance) {
  const char* text = std::getenv("MOBULA_SEED");
  BooksHistory history(text == nullptr ? 1 : std::strtoull(text, nullptr, 10));
  for (int step = 0; step < 20'000; step++) ASSERT_NO_FATAL_FAILURE(history.step());
  EXPECT_LE(history.answers(), history.asked());
  EXPECT_GT(history.answers(), history.asked() / 2);
}

}  // namespace
}  // namespace mobula::store
