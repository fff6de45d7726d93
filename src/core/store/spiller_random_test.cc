// Spiller with StoreBooks and the SlabAllocators of some processes, in one thread, from one seed. The
// world keeps what lies where as plain tables, so that every value can be told from every other: after
// each step each value that somebody has a ref to must be found, whole, in memory or on disk.

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "core/store/spiller.h"

namespace mobula::store {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kMiB = 1ULL << 20;
constexpr uint64_t kCapacity = 64 * kMiB;

using Content = uint64_t;  // Which bytes these are.
using Place = ValueName;   // Of a place: segment, entry and generation, which are never used again.

class World {
 public:
  enum class Files { kNone, kAllowed };  // For what memory has no room for.

  explicit World(uint64_t seed, double troubles, Files files = Files::kNone)
      : random_(seed), troubles_(troubles), files_allowed_(files == Files::kAllowed) {}

  void step() {
    now_ += std::chrono::microseconds(random_(5000));
    switch (random_(13)) {
      case 0:
      case 1:
      case 2:
        put(process());
        break;
      case 3:
        share_some(process(), 1 + random_(4 * kMiB));
        break;
      case 4:
        drop_value();
        break;
      case 5:
      case 6:
        look_at_value(process());
        break;
      case 7:
        unpin_one();
        break;
      case 8:
        finish_a_write();
        break;
      case 9:
        finish_a_read();
        break;
      case 10:
        return_empty(process());
        break;
      case 11:
        finish_a_file();
        break;
      default:
        books_.tick(headroom(), now_, effects_);
        break;
    }
    settle();
    check();
  }

  // Everybody lets go of everything; nothing may be left.
  void end() {
    for (int turn = 0; turn < 200; ++turn) {
      pins_.clear();
      while (!values_.empty()) drop(values_.begin());  // Some come only now: they waited for room.
      now_ += 100ms;
      finish_a_write();
      finish_a_read();
      finish_a_file();
      for (auto& [id, client] : processes_) return_empty(id);
      books_.tick(headroom(), now_, effects_);
      settle();
    }
    check();
    const Spiller::Totals totals = spiller_.totals();
    EXPECT_EQ(totals.values, 0);
    EXPECT_EQ(totals.files, 0);
    EXPECT_EQ(totals.disk_bytes, 0);
    EXPECT_TRUE(files_.empty());
    EXPECT_TRUE(memory_.empty());
    EXPECT_EQ(books_.granted_bytes(), 0);
    EXPECT_EQ(books_.in_file_bytes(), 0);
    EXPECT_EQ(totals.in_file_values, 0);
  }

  struct Seen {
    uint64_t puts = 0, refused = 0, restored = 0, lost = 0, kept = 0, failed_writes = 0;
    uint64_t in_files = 0, read_into_files = 0;
  };
  Seen seen;
  Spiller::Totals totals() const { return spiller_.totals(); }

 private:
  struct Value {
    wire::StoreLocation name{};
    Content content = 0;
    ProcessId owner{};
    bool shared = false;
    bool lost = false;
  };
  struct Client {
    SlabAllocator slabs{{}};
    SlabAllocator files{{}};
    uint64_t next_request = 1;
    std::map<uint64_t, uint64_t> waiting;  // Request: bytes of the put behind it.
  };
  struct Random {
    explicit Random(uint64_t seed) : engine(seed) {}
    uint64_t operator()(uint64_t below) { return engine() % below; }
    std::mt19937_64 engine;
  };
  using Values = std::map<Content, Value>;

  bool trouble() { return static_cast<double>(random_(1000)) < troubles_ * 1000; }
  ProcessId process() { return ProcessId{static_cast<uint32_t>(1 + random_(3))}; }
  uint64_t some_size() {
    const uint64_t kind = random_(20);
    if (files_allowed_ && random_(100) == 0) return kCapacity + random_(kMiB);
    if (kind == 0) return 34 * kMiB + random_(6 * kMiB);
    if (kind < 4) return 4 * kMiB + random_(8 * kMiB);
    return 100'000 + random_(kMiB);
  }

  void put(ProcessId id) {
    Client& client = processes_[id];
    if (client.waiting.size() > 2) return;
    seen.puts++;
    try_put(id, some_size());
  }

  void try_put(ProcessId id, uint64_t size) {
    Client& client = processes_[id];
    if (store_value(id, size)) return;
    const uint64_t number = client.next_request++;
    client.waiting[number] = size;
    ASSERT_TRUE(books_.request({id, number, client.slabs.segment_bytes_for(size)}, headroom(), now_,
                               effects_));
  }

  bool store_value(ProcessId id, uint64_t size) {
    auto extent = processes_[id].slabs.allocate(size);
    if (!extent) extent = processes_[id].files.allocate(size);
    if (!extent) return false;
    const wire::StoreLocation name{extent->segment, extent->entry, ++generation_, 0,
                                   extent->offset,  extent->size};
    const Content content = next_content_++;
    EXPECT_TRUE(memory_.try_emplace(name_of(name), content).second);
    values_[content] = {name, content, id, false, false};
    return true;
  }

  void share_some(ProcessId id, uint64_t bytes) {
    uint64_t shared = 0;
    for (auto& [content, value] : values_) {
      if (value.owner != id || value.shared || shared >= bytes) continue;
      value.shared = true;
      shared += value.name.size;
      spiller_.adopt(value.name, now_);
    }
  }

  void drop_value() {
    if (values_.empty()) return;
    auto value = values_.lower_bound(random_(next_content_));
    drop(value == values_.end() ? values_.begin() : value);
  }

  void drop(Values::iterator found) {
    const Value value = found->second;
    values_.erase(found);
    if (value.shared) {
      spiller_.free(value.name, effects_, spill_);
    } else {
      memory_.erase(name_of(value.name));
      std::erase_if(pins_, [&](const auto& pin) { return pin.second == name_of(value.name); });
      free_extent(value.owner, value.name);
    }
  }

  // As a process does: there, or ask.
  void look_at_value(ProcessId id) {
    if (values_.empty()) return;
    auto found = values_.lower_bound(random_(next_content_));
    if (found == values_.end()) found = values_.begin();
    const Value& value = found->second;
    if (!value.shared) return;
    const auto known = moved_.find(name_of(value.name));
    const Place place = known == moved_.end() ? name_of(value.name) : known->second;
    if (memory_.contains(place) && !marked_.contains(place)) {
      EXPECT_EQ(memory_.at(place), value.content);
      pin(id, place);
      return;
    }
    ASSERT_TRUE(spiller_.restore(id, value.name, now_, spill_));
    if (random_(50) == 0) spiller_.refuse_restores(id, "somebody has to let go", spill_);
  }

  void pin(ProcessId id, const Place& place) {
    if (pins_.size() < 6) pins_.emplace(number(id), place);
  }
  void unpin_one() {
    if (pins_.empty()) return;
    auto pin = pins_.begin();
    std::advance(pin, random_(pins_.size()));
    pins_.erase(pin);
  }
  bool pinned(const Place& place) const {
    return std::any_of(pins_.begin(), pins_.end(),
                       [&](const auto& pin) { return pin.second == place; });
  }

  void return_empty(ProcessId id) {
    for (const SegmentId segment : processes_[id].slabs.take_empty(now_)) {
      EXPECT_TRUE(books_.return_segment(id, segment, effects_));
    }
    for (const SegmentId segment : processes_[id].files.take_empty(now_)) {
      EXPECT_TRUE(books_.return_segment(id, segment, effects_));
    }
    books_.tick(headroom(), now_, effects_);
  }

  Headroom headroom() {
    if (!files_allowed_) return {};
    return {.files = DiskRoom{trouble() ? 0 : ~uint64_t{0}, "a disk"}};
  }
  void free_extent(ProcessId id, const wire::StoreLocation& place) {
    Client& client = processes_[id];
    SlabAllocator& slabs = client.slabs.owns(place.segment) ? client.slabs : client.files;
    ASSERT_TRUE(slabs.free(place.segment, place.entry, now_));
  }

  void finish_a_write() {
    if (writes_.empty()) return;
    const WriteOut write = writes_.front();
    writes_.erase(writes_.begin());
    WriteOutcome outcome;
    if (trouble()) {
      seen.failed_writes++;
      outcome.kind = random_(2) == 0 ? WriteOutcome::Kind::kDiskFull : WriteOutcome::Kind::kFailed;
      outcome.why = "the disk is on fire";
    } else {
      uint64_t offset = 0;
      for (const wire::StoreLocation& from : write.from) {
        const Content content = memory_.at(name_of(from));  // Aborts if it left too early.
        files_[{number(write.file), offset}] = content;
        outcome.checksums.push_back(content);
        offset += from.size;
      }
    }
    spiller_.on_written(write.file, outcome, now_, effects_, spill_);
  }

  void finish_a_read() {
    if (reads_.empty()) return;
    const auto [read, place] = reads_.front();
    reads_.erase(reads_.begin());
    ReadOutcome outcome{true, "", place};
    if (trouble()) outcome = {false, "a bit has flipped", place};
    const auto file = files_.find({number(read.from.file), read.from.offset});
    EXPECT_TRUE(file != files_.end());
    if (outcome.ok) {
      EXPECT_EQ(file->second, read.from.checksum);
      memory_[name_of(place)] = file->second;
    }
    spiller_.on_read(read.value, outcome, now_, effects_, spill_);
  }

  // What a shell does after every event.
  void settle() {
    for (int turn = 0; turn < 3; ++turn) {
      carry_out();
      const std::vector<wire::StoreLocation> evicting = books_.evicting();
      for (const wire::StoreLocation& place : evicting) {
        if (!pinned(name_of(place))) spiller_.on_unpinned(place, now_, effects_);
      }
      carry_out();
      spiller_.step(now_,
                    {.headroom = [this] { return headroom(); },
                     .disk =
                         [this] {
                           return DiskRoom{trouble() ? 0 : ~uint64_t{0}, "a disk"};
                         },
                     .is_pinned = [this](const auto& place) { return pinned(name_of(place)); }},
                    effects_, spill_);
      carry_out();
    }
  }

  void carry_out() {
    while (!effects_.empty() || !spill_.empty() || !tries_.empty()) {
      for (const Effect& effect : std::exchange(effects_, {})) {
        std::visit([this](const auto& what) { carry_out(what); }, effect);
      }
      for (const SpillEffect& effect : std::exchange(spill_, {})) {
        std::visit([this](const auto& what) { carry_out(what); }, effect);
      }
      for (const TryEvict& evict : std::exchange(tries_, {})) {
        marked_.erase(name_of(evict.location));
        if (pinned(name_of(evict.location))) {
          seen.kept++;
          spiller_.on_kept(evict.value, now_, effects_, spill_);
        } else {
          spiller_.on_evicted(evict.value, now_, effects_, spill_);
        }
      }
    }
  }

  // A file takes a while to be made.
  void finish_a_file() {
    if (making_.empty()) return;
    const CreateSegment create = making_.front();
    making_.erase(making_.begin());
    if (!books_.exists(create.segment)) return;
    if (!trouble()) return finish(create);
    books_.on_create_failed(create, {ErrorCode::kDiskFull, "no block is left"}, effects_);
  }

  void carry_out(const CreateSegment& create) {
    if (!create.in_file) return finish(create);
    making_.push_back(create);
  }
  void finish(const CreateSegment& create) {
    const SegmentShape shape{4096, create.data_bytes, shm::segment_entries_for(create.data_bytes),
                             false};
    if (create.process == kDaemonProcess)
      return spiller_.on_own_segment(create.segment, shape, now_);
    Client& client = processes_[create.process];
    if (create.in_file) seen.in_files++;
    SegmentShape own = shape;
    const auto waiting = client.waiting.extract(create.request);
    if (waiting.empty()) {  // It has found room meanwhile.
      ASSERT_TRUE(create.in_file);
      ASSERT_TRUE(books_.return_segment(create.process, create.segment, effects_));
      return;
    }
    own.for_one = client.slabs.wants_own_segment(waiting.mapped());
    SlabAllocator& slabs = create.in_file ? client.files : client.slabs;
    ASSERT_TRUE(slabs.add_segment(create.segment, own, now_));
    ASSERT_TRUE(store_value(create.process, waiting.mapped()));
  }
  void carry_out(const RefuseSegment& refuse) {
    seen.refused++;
    if (refuse.process == kDaemonProcess) return spiller_.on_own_refused(refuse.message, spill_);
    processes_[refuse.process].waiting.erase(refuse.request);
  }
  void carry_out(const AskForEmpty& ask) {
    share_some(ask.process, ask.share_bytes);
    for (const SegmentId segment : processes_[ask.process].slabs.take_empty(now_)) {
      ASSERT_TRUE(books_.return_segment(ask.process, segment, effects_));
    }
  }
  void carry_out(const DestroySegment& destroy) {
    for (const auto& [place, content] : memory_) ASSERT_NE(place.segment, destroy.segment);
  }
  void carry_out(const MarkEvicting&) {}
  void carry_out(const ReleaseExtent& release) {
    EXPECT_FALSE(pinned(name_of(release.location)));
    memory_.erase(name_of(release.location));
    if (release.writer == kDaemonProcess) return;
    Client& client = processes_[release.writer];
    free_extent(release.writer, release.location);
    // Something became free: who waits tries again, instead of waiting for a segment.
    for (auto it = client.waiting.begin(); it != client.waiting.end();) {
      if (store_value(release.writer, it->second)) {
        books_.cancel(release.writer, it->first);
        it = client.waiting.erase(it);
      } else {
        ++it;
      }
    }
  }
  void carry_out(const WriteOut& write) { writes_.push_back(write); }
  void carry_out(const ReadIn& read) {
    reads_.emplace_back(read, wire::StoreLocation{read.segment, read.entry, ++generation_, 0,
                                                  read.offset, read.from.size});
  }
  void carry_out(const TryEvict& evict) {
    marked_.insert(name_of(evict.location));
    tries_.push_back(evict);
  }
  void carry_out(const RemoveFile& remove) {
    const uint64_t file = number(remove.file);
    EXPECT_GT(std::erase_if(files_, [&](const auto& part) { return part.first.first == file; }), 0);
  }
  void carry_out(const PunchHole& hole) {
    EXPECT_EQ(files_.erase({number(hole.file), hole.offset}), 1);
  }
  void carry_out(const TellPlace& tell) {
    if (books_.is_in_file(tell.place.segment)) seen.read_into_files++;
    moved_[name_of(tell.value)] = name_of(tell.place);
    seen.restored++;
    pin(tell.process, name_of(tell.place));
  }
  void carry_out(const TellNoPlace&) {}
  void carry_out(const ValueLost& lost) {
    seen.lost++;
    for (auto& [content, value] : values_) {
      if (name_of(value.name) == name_of(lost.value)) value.lost = true;
    }
  }

  void check() {
    books_.check_invariants();
    spiller_.check_invariants();
    std::set<Content> found;
    for (const auto& [place, content] : memory_) found.insert(content);
    for (const auto& [part, content] : files_) found.insert(content);
    for (const auto& [content, value] : values_) {
      ASSERT_TRUE(value.lost || found.contains(content)) << "a value is gone";
    }
    for (const auto& [process, place] : pins_) {
      ASSERT_TRUE(memory_.contains(place)) << "somebody looked at it";
    }
  }

  Random random_;
  const double troubles_;
  const bool files_allowed_;
  Instant now_{1s};
  StoreBooks books_{{.capacity_bytes = kCapacity,
                     .file_after = std::chrono::milliseconds(30),
                     .file_after_file = std::chrono::milliseconds(10)}};
  Spiller spiller_{{.batch_bytes = 4 * kMiB}, books_};
  Effects effects_;
  SpillEffects spill_;
  std::vector<TryEvict> tries_;
  std::map<ProcessId, Client> processes_;
  Values values_;
  std::map<Place, Content> memory_;
  std::set<Place> marked_;
  std::map<Place, Place> moved_;
  std::multimap<uint32_t, Place> pins_;
  std::map<std::pair<uint64_t, uint64_t>, Content> files_;
  std::vector<WriteOut> writes_;
  std::vector<CreateSegment> making_;
  std::vector<std::pair<ReadIn, wire::StoreLocation>> reads_;
  Content next_content_ = 1;
  uint32_t generation_ = 0;
};

uint64_t first_seed() {
  const char* given = std::getenv("MOBULA_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
}

TEST(SpillerRandom, random_programs_lose_nothing_and_leave_nothing) {
  World::Seen all;
  uint64_t spilled = 0;
  for (uint64_t seed = first_seed(); seed < first_seed() + 8; ++seed) {
    SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
    World world(seed, 0);
    for (int step = 0; step < 3000 && !testing::Test::HasFatalFailure(); ++step) world.step();
    spilled += world.totals().spilled_bytes;
    world.end();
    EXPECT_EQ(world.seen.lost, 0);
    all.restored += world.seen.restored;
    all.kept += world.seen.kept;
    all.puts += world.seen.puts;
    if (testing::Test::HasFailure()) return;
  }
  // It was worth something.
  EXPECT_GT(spilled, 8 * kCapacity);
  EXPECT_GT(all.restored, 400);
}

TEST(SpillerRandom, random_programs_go_on_in_files_and_nothing_is_refused) {
  World::Seen all;
  for (uint64_t seed = first_seed(); seed < first_seed() + 3; ++seed) {
    SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
    World world(seed, 0, World::Files::kAllowed);
    for (int step = 0; step < 3000 && !testing::Test::HasFatalFailure(); ++step) world.step();
    world.end();
    EXPECT_EQ(world.seen.lost, 0);
    EXPECT_EQ(world.seen.refused, 0);
    all.in_files += world.seen.in_files;
    all.read_into_files += world.seen.read_into_files;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(all.in_files, 20);
  EXPECT_GT(all.read_into_files, 0);
}

TEST(SpillerRandom, random_programs_with_a_bad_disk_and_files_lose_only_what_is_said_to_be_lost) {
  for (uint64_t seed = first_seed(); seed < first_seed() + 3; ++seed) {
    SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
    World world(seed, 0.2, World::Files::kAllowed);
    for (int step = 0; step < 3000 && !testing::Test::HasFatalFailure(); ++step) world.step();
    world.end();
    if (testing::Test::HasFailure()) return;
  }
}

TEST(SpillerRandom, random_programs_with_a_bad_disk_lose_only_what_is_said_to_be_lost) {
  World::Seen all;
  for (uint64_t seed = first_seed(); seed < first_seed() + 24; ++seed) {
    SCOPED_TRACE("MOBULA_SEED=" + std::to_string(seed));
    World world(seed, 0.2);
    for (int step = 0; step < 3000 && !testing::Test::HasFatalFailure(); ++step) world.step();
    world.end();
    all.lost += world.seen.lost;
    all.failed_writes += world.seen.failed_writes;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(all.lost, 0);
  EXPECT_GT(all.failed_writes, 10);
}

}  // namespace
}  // namespace mobula::store
