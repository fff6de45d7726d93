#include "shm/trace.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace mobula::shm {
namespace {

class TraceTest : public testing::Test {
 protected:
  TraceTest() : memory_(kTraceBytes / sizeof(uint64_t) + 8, 0) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    trace_ = reinterpret_cast<std::byte*>((address + 63) / 64 * 64);
  }
  static TraceEntry entry(uint32_t name, uint64_t task) {
    TraceEntry made;
    made.name = name;
    made.task = task;
    made.call = task;
    made.start_ns = 10 * task;
    made.end_ns = 10 * task + 5;
    made.caller = 7;
    return made;
  }

  std::vector<uint64_t> memory_;
  std::byte* trace_ = nullptr;
};

TEST_F(TraceTest, what_is_recorded_is_read) {
  TraceWriter writer(trace_);
  const uint32_t name = writer.name_index("work", "CPU=10000\n");
  TraceEntry made = entry(name, 3);
  made.children_from = 40;
  made.children = 2;
  made.group = 5;
  made.attempt = 1;
  writer.record(made);
  made.group = kTraceGroupMax + 1;
  writer.record(made);
  const TraceReader reader(trace_);
  ASSERT_EQ(reader.written(), 2);
  const auto event = reader.read(0);
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->name, "work");
  EXPECT_EQ(event->resources, "CPU=10000\n");
  EXPECT_EQ(event->task, 3);
  EXPECT_EQ(event->children_from, 40);
  EXPECT_EQ(event->children, 2);
  EXPECT_EQ(event->group, 5);
  EXPECT_EQ(reader.read(1)->group, 0);  // Not known, rather than wrong.
  EXPECT_EQ(reader.read(1)->children_from, 40);
  EXPECT_EQ(event->attempt, 1);
  EXPECT_FALSE(event->failed);
  EXPECT_TRUE(event->error.empty());
}

TEST_F(TraceTest, the_oldest_records_go_and_the_totals_stay) {
  TraceWriter writer(trace_);
  const uint32_t name = writer.name_index("work", "");
  const uint64_t all = kTraceRecords + 100;
  for (uint64_t i = 0; i < all; ++i) {
    TraceEntry made = entry(name, i + 1);
    if (i % 10 == 0) made.flags = kTraceFailed;
    writer.record(made);
  }
  const TraceReader reader(trace_);
  EXPECT_EQ(reader.first_kept(), 100);
  EXPECT_FALSE(reader.read(99).has_value());
  EXPECT_EQ(reader.read(100)->task, 101);
  const TraceTotal total = reader.total(name);
  EXPECT_EQ(total.failed, (all + 9) / 10);
  EXPECT_EQ(total.finished + total.failed, all);
}

TEST_F(TraceTest, an_error_that_was_overwritten_is_not_taken_for_another) {
  TraceWriter writer(trace_);
  for (uint32_t i = 0; i <= kTraceErrors; ++i) {
    TraceEntry made = entry(0, i + 1);
    made.flags = kTraceFailed;
    made.error_type = i + 1;
    const std::string text = "error " + std::to_string(i) + std::string(1000, '.');
    made.error = text;
    writer.record(made);
  }
  const TraceReader reader(trace_);
  EXPECT_TRUE(reader.read(0)->error.empty());
  EXPECT_TRUE(reader.read(0)->failed);
  EXPECT_TRUE(reader.read(1)->error.starts_with("error 1."));
  EXPECT_EQ(reader.read(1)->error.size(), kTraceErrorBytes);
  EXPECT_EQ(reader.read(kTraceErrors)->error_type, kTraceErrors + 1);
}

TEST_F(TraceTest, long_names_are_cut_and_too_many_are_one) {
  TraceWriter writer(trace_);
  const std::string resources(kTraceNameBytes, 'r');
  const uint32_t name = writer.name_index(std::string(1000, 'n'), resources);
  const TraceReader reader(trace_);
  const TraceTotal total = reader.total(name);
  EXPECT_GE(total.name.size(), kTraceNameBytes / 4);
  EXPECT_LE(total.name.size() + total.resources.size(), kTraceNameBytes);
  uint32_t last = 0;
  for (uint32_t i = 0; i < 2 * kTraceNames; ++i)
    last = writer.name_index("n" + std::to_string(i), "");
  EXPECT_EQ(last, 0);
  EXPECT_EQ(reader.names(), kTraceNames);
  EXPECT_EQ(reader.total(0).name, "other");
  EXPECT_EQ(reader.total(kTraceNames + 5).name, "other");
}

TEST_F(TraceTest, a_reader_beside_the_writer_never_sees_half_a_record) {
  TraceWriter writer(trace_);
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    for (uint64_t task = 1; !stop.load(); ++task) writer.record(entry(0, task));
  });
  const TraceReader reader(trace_);
  uint64_t seen = 0;
  while (seen < 20'000) {
    const uint64_t end = reader.written();
    const uint64_t first = reader.first_kept();
    for (uint64_t i = first; i < std::min(end, first + 100); ++i) {
      const auto event = reader.read(i);
      if (!event) continue;
      ++seen;
      ASSERT_EQ(event->task, i + 1);
      ASSERT_EQ(event->start_ns, 10 * (i + 1));
      ASSERT_EQ(event->end_ns, 10 * (i + 1) + 5);
    }
  }
  stop.store(true);
  thread.join();
}

TEST(RunningCellTest, a_reader_sees_whole_values_only) {
  RunningCell cell;
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    for (uint64_t i = 1; !stop.load(); ++i) cell.store({i, 2 * i, 3 * i, 0, 0, 0, 0, 5 * i});
  });
  for (uint64_t seen = 0; seen < 20'000;) {
    const auto value = cell.load();
    if (!value) continue;
    ++seen;
    ASSERT_EQ(value->start_ns, 2 * value->task);
    ASSERT_EQ(value->children_from, 3 * value->task);
    ASSERT_EQ(value->group, 5 * value->task);
  }
  stop.store(true);
  thread.join();
}

}  // namespace
}  // namespace mobula::shm
