#include "process/store_client.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "shm/private_mapping.h"

namespace mobula::process {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1ULL << 20;

// The daemon's part: makes segments, hands out descriptors, marks and releases extents.
class FakeDaemon {
 public:
  struct Segment {
    shm::Fd fd;
    shm::Mapping table;
    uint64_t data_bytes;
  };

  std::shared_ptr<OwnSegment> grant(const NeedSegment& need) {
    const uint64_t bytes = std::max(need.bytes, need.for_one ? 0 : standard_bytes);
    const SegmentId id{next_++};
    Result<shm::NewSegment> made =
        in_files ? create_in_file(id, bytes) : shm::create_segment(id, bytes);
    EXPECT_TRUE(made.has_value());
    auto own = OwnSegment::map(id, std::move(*shm::duplicate(made->fd)), bytes);
    EXPECT_TRUE(own.has_value());
    segments.emplace(id, Segment{std::move(made->fd), std::move(made->table), bytes});
    return *own;
  }
  std::unique_ptr<ReadSegment> open(SegmentId id) {
    const Segment& segment = segments.at(id);
    const Result<shm::Fd> fd = shm::reopen_read_only(segment.fd);
    auto mapped = ReadSegment::map(id, *fd, segment.data_bytes);
    EXPECT_TRUE(mapped.has_value());
    return std::move(*mapped);
  }
  shm::SegmentView view(SegmentId id) {
    const Segment& segment = segments.at(id);
    return *shm::SegmentView::attach(segment.table.data(), segment.table.size(), id);
  }

  static Result<shm::NewSegment> create_in_file(SegmentId id, uint64_t bytes) {
    shm::Fd file(::open(testing::TempDir().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    const uint64_t size = shm::segment_file_bytes(bytes, shm::segment_entries_for(bytes));
    EXPECT_EQ(::posix_fallocate(file.get(), 0, static_cast<off_t>(size)), 0);
    return shm::create_segment_in(std::move(file), id, bytes);
  }

  uint64_t standard_bytes = 64 * kMiB;
  bool in_files = false;
  std::map<SegmentId, Segment> segments;

 private:
  uint32_t next_ = 1;
};

// A process: its client, its pin table.
struct Process {
  explicit Process(FakeDaemon& its_daemon, uint32_t number = 1)
      : daemon(its_daemon),
        pins(*shm::Mapping::map(pins_fd, shm::kPinBytes, shm::Access::kReadWrite)),
        client({.process = ProcessId{number}, .slabs = {}}, pins.data()) {}

  WritableExtent create(uint64_t size) {
    auto created = client.create(size);
    if (const NeedSegment* need = std::get_if<NeedSegment>(&created)) {
      EXPECT_TRUE(client.add_own(daemon.grant(*need), *need, now));
      created = client.create(size);
    }
    return std::get<WritableExtent>(created);
  }
  wire::StoreLocation put(std::span<const std::byte> bytes) {
    const WritableExtent extent = create(bytes.size());
    extent.copy(0, bytes);
    client.seal(extent);
    return extent.location;
  }
  StoredView open(const wire::StoreLocation& location) {
    auto opened = client.open(location);
    EXPECT_TRUE(opened.has_value());
    if (const NeedOpen* need = std::get_if<NeedOpen>(&*opened)) {
      client.add_readable(daemon.open(need->segment));
      opened = client.open(location);
    }
    return std::get<StoredView>(*opened);
  }
  bool has_pinned(const wire::StoreLocation& location) const {
    shm::PinScan scan;
    scan.add(pins.data());
    return scan.pinned(location);
  }

  FakeDaemon& daemon;
  shm::Fd pins_fd = std::move(*shm::create_memory("pins", shm::kPinBytes));
  shm::Mapping pins;
  StoreClient client;
  Instant now{0};
};

std::vector<std::byte> bytes_of(size_t size, uint64_t seed) {
  std::vector<std::byte> bytes(size);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < size; i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, size - i));
  }
  return bytes;
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

TEST(StoreClient, what_is_put_can_be_read_here_and_elsewhere) {
  FakeDaemon daemon;
  Process writer(daemon, 1);
  Process reader(daemon, 2);
  for (const size_t size : {1UL, 1000UL, 300'000UL, 5'000'000UL, 40'000'000UL}) {
    const std::vector<std::byte> bytes = bytes_of(size, size);
    const wire::StoreLocation at = writer.put(bytes);
    EXPECT_EQ(at.offset % 64, 0);
    for (Process* process : {&writer, &reader}) {
      const StoredView view = process->open(at);
      EXPECT_TRUE(equal(view.bytes, bytes));
      EXPECT_TRUE(process->has_pinned(at));
      process->client.unpin(view.pin, 0s);
      EXPECT_FALSE(process->has_pinned(at));
      process->client.check_invariants();
    }
  }
}

TEST(StoreClient, a_get_copies_nothing) {
  FakeDaemon daemon;
  Process writer(daemon);
  const wire::StoreLocation at = writer.put(bytes_of(1'000'000, 1));
  const StoredView one = writer.open(at);
  const StoredView two = writer.open(at);
  EXPECT_EQ(one.bytes.data(), two.bytes.data());
  EXPECT_EQ(one.pin, two.pin);  // One pin, two views.
  EXPECT_EQ(writer.client.views(), 1);
  writer.client.unpin(one.pin, 0s);
  EXPECT_TRUE(writer.has_pinned(at));
  writer.client.unpin(two.pin, 0s);
  EXPECT_FALSE(writer.has_pinned(at));
}

TEST(StoreClient, space_is_used_again_once_no_view_is_left) {
  FakeDaemon daemon;
  Process writer(daemon);
  const std::vector<std::byte> bytes = bytes_of(2'000'000, 1);
  const wire::StoreLocation first = writer.put(bytes);
  const StoredView view = writer.open(first);
  writer.client.drop(first, 0s);
  const wire::StoreLocation second = writer.put(bytes_of(2'000'000, 2));
  EXPECT_NE(second.offset, first.offset);
  EXPECT_TRUE(equal(view.bytes, bytes));
  writer.client.unpin(view.pin, 0s);
  const wire::StoreLocation third = writer.put(bytes);
  EXPECT_EQ(third.offset, first.offset);
  EXPECT_FALSE(writer.client.open(first).has_value());  // A location is never two things.
  writer.client.check_invariants();
}

TEST(StoreClient, what_was_given_away_comes_back_from_the_daemon_only) {
  FakeDaemon daemon;
  Process writer(daemon);
  const wire::StoreLocation at = writer.put(bytes_of(1'000'000, 1));
  EXPECT_FALSE(writer.client.on_extents_freed({&at, 1}, 0s));
  writer.client.give_away(at);
  writer.client.drop(at, 0s);  // Not ours to drop.
  EXPECT_NE(writer.put(bytes_of(1'000'000, 2)).offset, at.offset);
  EXPECT_TRUE(daemon.view(at.segment).evict(at));
  EXPECT_EQ(writer.client.open(at).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(daemon.view(at.segment).release(at));
  EXPECT_TRUE(writer.client.on_extents_freed({&at, 1}, 0s));
  EXPECT_FALSE(writer.client.on_extents_freed({&at, 1}, 0s));
  EXPECT_EQ(writer.put(bytes_of(1'000'000, 3)).offset, at.offset);
  writer.client.check_invariants();
}

TEST(StoreClient, an_abandoned_extent_leaves_nothing) {
  FakeDaemon daemon;
  Process writer(daemon);
  const WritableExtent extent = writer.create(1'000'000);
  EXPECT_FALSE(writer.client.open(extent.location).has_value());  // Not sealed.
  writer.client.abandon(extent, 0s);
  EXPECT_EQ(writer.client.bytes_in_use(), 0);
  EXPECT_EQ(writer.client.take_empty(0s, true).size(), 1);
  writer.client.check_invariants();
}

TEST(StoreClient, empty_segments_are_kept_while_they_are_warm) {
  FakeDaemon daemon;
  Process writer(daemon);
  const wire::StoreLocation at = writer.put(bytes_of(50'000'000, 1));
  EXPECT_TRUE(writer.client.take_empty(100s, true).empty());
  writer.client.drop(at, 100s);
  EXPECT_TRUE(writer.client.take_empty(105s, false).empty());
  EXPECT_EQ(writer.client.take_empty(110s, false).size(), 1);
  EXPECT_EQ(writer.client.own_segments(), 0);
}

TEST(StoreClient, a_segment_is_asked_for_ahead_when_there_are_more_large_values_than_ever) {
  FakeDaemon daemon;
  Process writer(daemon);
  StoreClient& client = writer.client;
  const uint64_t size = 40 * kMiB;
  const auto store = [&] {
    const WritableExtent extent = writer.create(size);
    client.seal(extent);
    return extent.location;
  };
  writer.put(bytes_of(1000, 1));
  EXPECT_FALSE(client.want_ahead(1000, 1));  // Standard segments are large enough for the next.
  const wire::StoreLocation first = store();
  EXPECT_FALSE(client.want_ahead(300 * kMiB, 1));  // More than ahead_max.
  const auto need = client.want_ahead(size, 1);
  ASSERT_TRUE(need);
  EXPECT_EQ(need->bytes, size);
  EXPECT_TRUE(need->for_one);
  EXPECT_FALSE(client.want_ahead(size, 2));  // One at a time.
  EXPECT_FALSE(client.end_ahead(0));
  EXPECT_FALSE(client.end_ahead(2));
  ASSERT_TRUE(client.end_ahead(1));
  EXPECT_FALSE(client.end_ahead(1));
  ASSERT_TRUE(client.add_own(daemon.grant(*need), *need, 0s));

  const size_t segments = client.own_segments();
  const wire::StoreLocation second = store();
  EXPECT_EQ(client.own_segments(), segments);  // In the one that was asked for ahead.
  ASSERT_TRUE(client.want_ahead(size, 3));
  ASSERT_TRUE(client.end_ahead(3));  // Refused.
  client.drop(first, 0s);
  const wire::StoreLocation third = store();
  EXPECT_FALSE(client.want_ahead(size, 4));  // Two at once are no news any more.

  client.drop(second, 0s);
  client.drop(third, 0s);
  EXPECT_EQ(client.take_empty(10s, false).size(), 2);
  store();
  EXPECT_TRUE(client.want_ahead(size, 5));  // All memory was given back: it begins again.
  client.check_invariants();
}

TEST(StoreClient, a_segment_that_is_given_back_is_not_mapped_any_further) {
  FakeDaemon daemon;
  Process writer(daemon);
  const WritableExtent extent = writer.create(40 * kMiB);
  const uint64_t begin = extent.location.offset;
  const Result<uint64_t> some = extent.segment->populate(begin, begin + kMiB, kMiB);
  if (!some) GTEST_SKIP() << some.error().message;
  writer.client.abandon(extent, 0s);
  EXPECT_EQ(writer.client.take_empty(0s, true).size(), 1);
  EXPECT_EQ(extent.segment->populate(begin, begin + 40 * kMiB, 40 * kMiB), begin + 40 * kMiB);
  EXPECT_FALSE(extent.segment->is_mapped(begin, begin + 40 * kMiB));
}

TEST(StoreClient, a_segment_that_is_gone_stays_mapped_for_its_views) {
  FakeDaemon daemon;
  Process writer(daemon, 1);
  Process reader(daemon, 2);
  const std::vector<std::byte> bytes = bytes_of(1'000'000, 1);
  const wire::StoreLocation at = writer.put(bytes);
  const StoredView view = reader.open(at);
  reader.client.on_segment_gone(at.segment);
  EXPECT_FALSE(reader.client.has_retired());
  EXPECT_TRUE(equal(view.bytes, bytes));
  EXPECT_EQ(reader.client.open(at).error().code, ErrorCode::kNotFound);
  reader.client.unpin(view.pin, 0s);
  EXPECT_EQ(reader.client.take_retired().readable.size(), 1);
  reader.client.check_invariants();
}

TEST(StoreClient, a_file_is_used_last_and_given_back_as_soon_as_nothing_is_in_it) {
  FakeDaemon daemon;
  daemon.standard_bytes = 2 * kMiB;
  Process writer(daemon, 1);
  Process reader(daemon, 2);
  const std::vector<std::byte> bytes = bytes_of(kMiB + 1, 1);
  const wire::StoreLocation in_memory = writer.put(bytes);
  daemon.in_files = true;
  const wire::StoreLocation in_file = writer.put(bytes);
  ASSERT_NE(in_file.segment, in_memory.segment);
  for (Process* process : {&writer, &reader}) {
    const StoredView view = process->open(in_file);
    EXPECT_TRUE(equal(view.bytes, bytes));
    process->client.unpin(view.pin, 0s);
  }
  EXPECT_FALSE(writer.client.has_rest());
  writer.client.drop(in_memory, 0s);
  EXPECT_FALSE(writer.client.has_rest()) << "memory is kept, as it is warm";
  const wire::StoreLocation again = writer.put(bytes);
  EXPECT_EQ(again.segment, in_memory.segment) << "memory first";
  writer.client.drop(in_file, 0s);
  EXPECT_TRUE(writer.client.has_rest());
  const auto empty = writer.client.take_empty(0s, false);
  ASSERT_EQ(empty.size(), 1);
  EXPECT_EQ(empty[0]->id(), in_file.segment);
  EXPECT_FALSE(writer.client.has_rest());
  writer.client.check_invariants();
}

TEST(StoreClient, a_value_can_be_mapped_privately_and_nobody_else_sees_what_is_written) {
  FakeDaemon daemon;
  for (const bool in_files : {false, true}) {
    daemon.in_files = in_files;
    Process writer(daemon, 1);
    const std::vector<std::byte> bytes = bytes_of(300'000, 1);
    writer.put(bytes);
    const wire::StoreLocation at = writer.put(bytes);
    const StoredView view = writer.open(at);
    const auto place = writer.client.file_of(view.pin);
    ASSERT_TRUE(place);
    const auto mapped = shm::PrivateMapping::map(*place->file, place->offset, place->size);
    ASSERT_TRUE(mapped);
    EXPECT_TRUE(equal({mapped->data(), bytes.size()}, bytes));
    mapped->data()[0] ^= std::byte{1};
    mapped->data()[bytes.size() - 1] ^= std::byte{1};
    EXPECT_TRUE(equal(view.bytes, bytes));
    EXPECT_FALSE(equal({mapped->data(), bytes.size()}, bytes));
    EXPECT_FALSE(shm::PrivateMapping::map(*place->file, place->offset, kMiB * kMiB));
    writer.client.unpin(view.pin, 0s);
  }
}

TEST(StoreClient, a_process_tells_how_much_memory_its_values_take) {
  FakeDaemon daemon;
  daemon.standard_bytes = 2 * kMiB;
  shm::Fd pins_fd = std::move(*shm::create_memory("pins", shm::kPinBytes));
  const auto pins = *shm::Mapping::map(pins_fd, shm::kPinBytes, shm::Access::kReadWrite);
  std::atomic<uint64_t> told{0};
  StoreClient client({.process = ProcessId{1}, .slabs = {}, .stored_bytes = &told}, pins.data());
  const auto store = [&](uint64_t size) {
    auto created = client.create(size);
    if (const NeedSegment* need = std::get_if<NeedSegment>(&created)) {
      EXPECT_TRUE(client.add_own(daemon.grant(*need), *need, 0s));
      created = client.create(size);
    }
    client.seal(std::get<WritableExtent>(created));
    return std::get<WritableExtent>(created).location;
  };
  const wire::StoreLocation first = store(kMiB);
  EXPECT_EQ(told.load(), kMiB);
  daemon.in_files = true;
  store(2 * kMiB);
  EXPECT_EQ(told.load(), kMiB) << "what is in a file takes none";
  client.drop(first, 0s);
  EXPECT_EQ(told.load(), 0);
}

TEST(StoreClient, bad_places_and_descriptors_are_refused) {
  FakeDaemon daemon;
  Process writer(daemon);
  wire::StoreLocation at = writer.put(bytes_of(1'000'000, 1));
  at.size = ~uint64_t{0};
  EXPECT_EQ(writer.client.open(at).error().code, ErrorCode::kInvalidArgument);
  at.size = 64;
  at.entry = ~uint32_t{0};
  EXPECT_EQ(writer.client.open(at).error().code, ErrorCode::kInvalidArgument);
  const FakeDaemon::Segment& segment = daemon.segments.at(at.segment);
  EXPECT_FALSE(ReadSegment::map(SegmentId{77}, segment.fd, segment.data_bytes).has_value());
  EXPECT_FALSE(ReadSegment::map(at.segment, segment.fd, segment.data_bytes * 2).has_value());
  EXPECT_FALSE(ReadSegment::map(at.segment, segment.fd, 2 * kMiB).has_value());
  EXPECT_FALSE(ReadSegment::map(at.segment, segment.fd, ~uint64_t{0}).has_value());
}

TEST(StoreClient, memory_is_mapped_ahead_of_its_use) {
  FakeDaemon daemon;
  Process writer(daemon);
  const std::vector<std::byte> bytes = bytes_of(1'000'000, 1);
  const wire::StoreLocation at = writer.put(bytes);
  writer.client.populator().wait_until_idle();
  const std::shared_ptr<OwnSegment> segment = writer.create(1).segment;
  const Result<uint64_t> done = segment->populate(at.offset, at.offset + at.size, kMiB);
  if (!done) GTEST_SKIP() << done.error().message;
  EXPECT_TRUE(segment->is_mapped(at.offset, at.offset + 2 * kMiB));
  EXPECT_FALSE(segment->is_mapped(at.offset, segment->file_bytes()));  // Only as far as is useful.
  const StoredView view = writer.open(at);
  EXPECT_TRUE(equal(view.bytes, bytes));
}

TEST(StoreClient, copies_in_pieces_over_warm_and_cold_memory_are_exact) {
  FakeDaemon daemon;
  Process writer(daemon);
  const std::vector<std::byte> bytes = bytes_of(3'000'001, 5);
  const WritableExtent extent = writer.create(bytes.size());
  extent.segment->set_mapped(extent.location.offset + 500'000, extent.location.offset + 900'000);
  uint64_t at = 0;
  for (const uint64_t piece : {7UL, 400'000UL, 1'000'000UL, 99'994UL, 1'500'000UL}) {
    extent.copy(at, std::span(bytes).subspan(at, piece));
    at += piece;
  }
  ASSERT_EQ(at, bytes.size());
  writer.client.seal(extent);
  EXPECT_TRUE(equal(writer.open(extent.location).bytes, bytes));
}

TEST(StoreClient, memory_that_is_used_again_gets_mapped_also_without_a_populator) {
  FakeDaemon daemon;
  Process writer(daemon);
  const WritableExtent extent = writer.create(5'000'000);
  const uint64_t begin = extent.location.offset;
  const std::vector<std::byte> bytes = bytes_of(5'000'000, 1);
  extent.segment->copy(extent.data, bytes, extent.segment, nullptr);
  EXPECT_FALSE(extent.segment->is_mapped(begin, begin + bytes.size()));  // Through the file.
  const std::vector<std::byte> others = bytes_of(5'000'000, 2);
  extent.segment->copy(extent.data, others, extent.segment, nullptr);
  EXPECT_TRUE(equal({extent.data, others.size()}, others));
  const Result<uint64_t> possible = extent.segment->populate(0, 4096, 4096);
  if (!possible) GTEST_SKIP() << possible.error().message;
  EXPECT_TRUE(extent.segment->is_mapped(begin, begin + bytes.size()));
}

// Threads copy into their extents, each its own, while one thread at a time uses the client.
TEST(StoreClient, threads_may_copy_at_once) {
  FakeDaemon daemon;
  Process writer(daemon);
  std::mutex lock;
  std::atomic<int> wrong{0};
  const auto work = [&](uint64_t thread) {
    for (uint64_t round = 0; round < 20; round++) {
      const std::vector<std::byte> bytes =
          bytes_of(300'000 + thread * 100'000, thread * 100 + round);
      WritableExtent extent;
      {
        const std::lock_guard hold(lock);
        extent = writer.create(bytes.size());
      }
      extent.copy(0, bytes);
      StoredView view;
      {
        const std::lock_guard hold(lock);
        writer.client.seal(extent);
        view = writer.open(extent.location);
      }
      if (!equal(view.bytes, bytes)) wrong++;
      const std::lock_guard hold(lock);
      writer.client.drop(extent.location, 0s);
      writer.client.unpin(view.pin, 0s);
    }
  };
  std::thread one(work, 1);
  std::thread two(work, 2);
  one.join();
  two.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(writer.client.bytes_in_use(), 0);
  writer.client.check_invariants();
}

// A writer and a reader that put, look, share, drop and recycle, in random order.
class StoreHistory {
 public:
  explicit StoreHistory(uint64_t seed) : random_(seed) { daemon_.standard_bytes = 4 * kMiB; }

  void step() {
    switch (random_() % 6) {
      case 0:
        if (stored_.size() < 40) {
          std::vector<std::byte> bytes = bytes_of(1 + random_() % 600'000, random_());
          const wire::StoreLocation at = writer_.put(bytes);
          stored_.push_back({at, std::move(bytes)});
        }
        break;
      case 1:
        if (!stored_.empty() && views_.size() < 30) {
          const Stored& some = stored_[random_() % stored_.size()];
          Process* process = random_() % 2 == 0 ? &writer_ : &reader_;
          views_.push_back({process, process->open(some.location), some.bytes});
        }
        break;
      case 2:
        if (!stored_.empty()) {
          Stored& some = stored_[random_() % stored_.size()];
          writer_.client.give_away(some.location);
          some.given = true;
        }
        break;
      case 3:
        drop_some();
        break;
      case 4:
        if (!views_.empty()) {
          std::swap(views_[random_() % views_.size()], views_.back());
          EXPECT_TRUE(equal(views_.back().view.bytes, views_.back().bytes));
          views_.back().process->client.unpin(views_.back().view.pin, 0s);
          views_.pop_back();
        }
        break;
      default:
        recycle();
    }
  }
  void check() const {
    writer_.client.check_invariants();
    reader_.client.check_invariants();
    for (const Viewed& viewed : views_) EXPECT_TRUE(equal(viewed.view.bytes, viewed.bytes));
  }

 private:
  struct Stored {
    wire::StoreLocation location;
    std::vector<std::byte> bytes;
    bool given = false;
  };
  struct Viewed {
    Process* process;
    StoredView view;
    std::vector<std::byte> bytes;
  };

  void drop_some() {
    if (stored_.empty()) return;
    std::swap(stored_[random_() % stored_.size()], stored_.back());
    const Stored& gone = stored_.back();
    if (gone.given) {
      EXPECT_TRUE(daemon_.view(gone.location.segment).evict(gone.location));
      evicting_.push_back(gone.location);
    } else if (!reader_.has_pinned(gone.location)) {  // Private: nobody else has a view.
      writer_.client.drop(gone.location, 0s);
    } else {
      return;
    }
    stored_.pop_back();
  }
  // As the daemon does: what nobody has pinned goes back to its writer.
  void recycle() {
    std::erase_if(evicting_, [&](const wire::StoreLocation& at) {
      if (writer_.has_pinned(at) || reader_.has_pinned(at)) return false;
      EXPECT_TRUE(daemon_.view(at.segment).release(at));
      EXPECT_TRUE(writer_.client.on_extents_freed({&at, 1}, 0s));
      return true;
    });
  }

  std::mt19937_64 random_;
  FakeDaemon daemon_;
  Process writer_{daemon_, 1};
  Process reader_{daemon_, 2};
  std::vector<Stored> stored_;
  std::vector<Viewed> views_;
  std::vector<wire::StoreLocation> evicting_;
};

TEST(StoreClientRandom, bytes_under_a_view_never_change) {
  const char* text = std::getenv("MOBULA_SEED");
  StoreHistory history(text == nullptr ? 1 : std::strtoull(text, nullptr, 10));
  for (int step = 0; step < 3000; step++) {
    history.step();
    if (step % 16 == 0) history.check();
  }
  history.check();
}

}  // namespace
}  // namespace mobula::process
