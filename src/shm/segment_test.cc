#include "shm/segment.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace mobula::shm {
namespace {

constexpr SegmentId kSegment{3};
constexpr ProcessId kWriter{1};
constexpr uint64_t kData = 4ULL << 20;

struct Mapped {
  NewSegment made;
  Mapping memory;
  SegmentView view;
};

Mapped make(uint64_t data_bytes = kData) {
  Result<NewSegment> made = create_segment(kSegment, data_bytes);
  EXPECT_TRUE(made.has_value());
  const uint64_t bytes = segment_file_bytes(data_bytes, segment_entries_for(data_bytes));
  Result<Mapping> memory = Mapping::map(made->fd, bytes, Access::kReadWrite);
  EXPECT_TRUE(memory.has_value());
  const Result<SegmentView> view = SegmentView::attach(memory->data(), bytes, kSegment);
  EXPECT_TRUE(view.has_value());
  return {std::move(*made), std::move(*memory), *view};
}

TEST(Segment, an_extent_is_written_sealed_and_dropped) {
  Mapped segment = make();
  SegmentView& view = segment.view;
  const wire::StoreLocation at = view.begin_write(0, view.data_offset(), 100, kWriter);
  EXPECT_EQ(view.state(0), EntryState::kWriting);
  EXPECT_FALSE(view.is_sealed(at));
  EXPECT_TRUE(view.seal(at));
  EXPECT_TRUE(view.is_sealed(at));
  EXPECT_FALSE(view.seal(at));
  EXPECT_TRUE(view.drop(at));
  EXPECT_FALSE(view.is_sealed(at));
  EXPECT_FALSE(view.drop(at));
}

TEST(Segment, a_location_means_one_generation) {
  Mapped segment = make();
  SegmentView& view = segment.view;
  const wire::StoreLocation first = view.begin_write(0, view.data_offset(), 100, kWriter);
  EXPECT_TRUE(view.seal(first));
  EXPECT_TRUE(view.drop(first));
  const wire::StoreLocation second = view.begin_write(0, view.data_offset(), 100, kWriter);
  EXPECT_TRUE(view.seal(second));
  EXPECT_FALSE(view.is_sealed(first));
  EXPECT_FALSE(view.evict(first));
  EXPECT_TRUE(view.is_sealed(second));
}

TEST(Segment, what_the_daemon_evicts_the_writer_cannot_drop) {
  Mapped segment = make();
  Result<SegmentView> daemon =
      SegmentView::attach(segment.made.table.data(), segment.made.table.size(), kSegment);
  ASSERT_TRUE(daemon.has_value());
  const wire::StoreLocation at =
      segment.view.begin_write(7, segment.view.data_offset(), 100, kWriter);
  EXPECT_FALSE(daemon->evict(at));  // Not sealed yet.
  EXPECT_TRUE(segment.view.seal(at));
  EXPECT_TRUE(daemon->evict(at));
  EXPECT_FALSE(segment.view.drop(at));
  EXPECT_TRUE(daemon->release(at));
  EXPECT_EQ(segment.view.state(7), EntryState::kFree);
  EXPECT_EQ(segment.view.generation(7), at.generation);
}

TEST(Segment, locations_are_checked_before_use) {
  Mapped segment = make();
  const SegmentView& view = segment.view;
  const uint64_t start = view.data_offset();
  const auto ok = [&](wire::StoreLocation at) { return view.check_location(at).has_value(); };
  EXPECT_TRUE(ok({kSegment, 0, 1, 0, start, kData}));
  EXPECT_FALSE(ok({SegmentId{4}, 0, 1, 0, start, 64}));
  EXPECT_FALSE(ok({kSegment, view.entry_count(), 1, 0, start, 64}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, start, 0}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, start, kData + 1}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, start + 1, 64}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, 0, 64}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, start + kData, 64}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, ~uint64_t{63}, 128}));
  EXPECT_FALSE(ok({kSegment, 0, 1, 0, start + 64, ~uint64_t{0}}));
  EXPECT_FALSE(view.is_sealed({kSegment, ~uint32_t{0}, 1, 0, start, 64}));
}

TEST(Segment, a_bad_header_is_refused) {
  Mapped segment = make();
  const uint64_t bytes = segment.memory.size();
  EXPECT_FALSE(SegmentView::attach(segment.memory.data(), bytes, SegmentId{4}));
  EXPECT_FALSE(SegmentView::attach(segment.memory.data(), 100, kSegment));
  EXPECT_FALSE(SegmentView::attach(segment.memory.data(), 4096, kSegment));
  SegmentHeader header{};
  std::memcpy(&header, segment.memory.data(), sizeof(header));
  header.entry_count = 1 << 30;
  std::memcpy(segment.memory.data(), &header, sizeof(header));
  EXPECT_FALSE(SegmentView::attach(segment.memory.data(), bytes, kSegment));
  EXPECT_FALSE(create_segment(kSegment, 0));
  EXPECT_FALSE(create_segment(kSegment, 100));
  EXPECT_FALSE(create_segment(kSegment, ~uint64_t{4095}));
}

TEST(Segment, entries_follow_the_size_of_the_data) {
  EXPECT_EQ(segment_entries_for(2ULL << 20), 128);
  EXPECT_EQ(segment_entries_for(64ULL << 20), kSegmentEntriesMax);
  EXPECT_EQ(segment_entries_for(64ULL << 30), kSegmentEntriesMax);
  EXPECT_EQ(segment_entries_for(4096), kSegmentEntriesMin);
  EXPECT_EQ(segment_data_offset(kSegmentEntriesMax) % 4096, 0);
}

// Only what is touched costs memory.
TEST(Segment, a_new_segment_is_sparse) {
  Mapped segment = make(64ULL << 20);
  std::vector<unsigned char> resident(segment.memory.size() / 4096);
  ASSERT_EQ(::mincore(segment.memory.data(), segment.memory.size(), resident.data()), 0);
  size_t pages = 0;
  for (const unsigned char page : resident) pages += page & 1;
  EXPECT_LE(pages, 2);
}

TEST(Segment, a_reader_process_sees_the_bytes_and_cannot_write) {
  Mapped segment = make();
  const wire::StoreLocation at =
      segment.view.begin_write(0, segment.view.data_offset(), 6, kWriter);
  std::memcpy(segment.memory.data() + at.offset, "hello", 6);
  segment.view.seal(at);
  const Result<Fd> read_only = reopen_read_only(segment.made.fd);
  ASSERT_TRUE(read_only.has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    // Exit codes: 0 fine, else what went wrong. Nothing of the test framework runs here.
    const size_t bytes = segment_file_bytes(kData, segment_entries_for(kData));
    const Result<Mapping> memory = Mapping::map(*read_only, bytes, Access::kReadOnly);
    if (!memory) ::_exit(1);
    const Result<SegmentView> view = SegmentView::attach(memory->data(), bytes, kSegment);
    if (!view || !view->check_location(at) || !view->is_sealed(at)) ::_exit(2);
    if (std::memcmp(memory->data() + at.offset, "hello", 6) != 0) ::_exit(3);
    if (Mapping::map(*read_only, bytes, Access::kReadWrite)) ::_exit(4);
    if (::mprotect(memory->data(), bytes, PROT_READ | PROT_WRITE) == 0) ::_exit(5);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace mobula::shm
