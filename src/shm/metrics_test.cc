#include "shm/metrics.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <random>

namespace mobula::shm {
namespace {

class MetricsTest : public testing::Test {
 protected:
  std::byte* region() { return reinterpret_cast<std::byte*>(memory_.data()); }
  std::vector<SeriesValue> read() {
    std::vector<SeriesValue> found;
    read_metrics(region(), [&](SeriesValue series) { found.push_back(std::move(series)); });
    return found;
  }
  std::vector<uint64_t> memory_ = std::vector<uint64_t>(kMetricsBytes / sizeof(uint64_t), 0);
};

TEST_F(MetricsTest, values_are_read_as_they_were_recorded) {
  MetricsWriter writer(region());
  const auto counter = writer.add({SeriesKind::kCounter, "c", "what", {{"a", "1"}, {"b", ""}}, {}});
  const auto gauge = writer.add({SeriesKind::kGauge, "g", "", {}, {}});
  const auto histogram = writer.add({SeriesKind::kHistogram, "h", "", {}, {1, 10}});
  ASSERT_TRUE(counter && gauge && histogram);
  writer.increase(*counter, 1);
  writer.increase(*counter, 0.5);
  writer.set(*gauge, 3);
  writer.set(*gauge, -4);
  for (const double value : {0.5, 1.0, 2.0, 100.0}) writer.observe(*histogram, value);
  const auto found = read();
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].spec.name, "c");
  EXPECT_EQ(found[0].spec.description, "what");
  EXPECT_EQ(found[0].spec.tags[1], std::pair(std::string("b"), std::string()));
  EXPECT_EQ(found[0].value, 1.5);
  EXPECT_EQ(found[1].value, -4);
  EXPECT_EQ(found[2].buckets, (std::vector<uint64_t>{2, 1, 1}));
  EXPECT_EQ(found[2].value, 103.5);
}

TEST_F(MetricsTest, what_does_not_fit_is_refused_and_counted) {
  MetricsWriter writer(region());
  size_t added = 0;
  while (writer.add({SeriesKind::kCounter, std::string(4000, 'n'), "", {}, {}})) ++added;
  EXPECT_EQ(read().size(), added);
  EXPECT_EQ(refused_series(region()), 1);
  EXPECT_FALSE(writer.add({SeriesKind::kCounter, std::string(kSeriesTextMax, 'n'), "", {}, {}}));
  EXPECT_FALSE(writer.add({SeriesKind::kHistogram, "h", "", {}, std::vector<double>(300, 1.0)}));
  EXPECT_EQ(refused_series(region()), 3);
}

TEST_F(MetricsTest, random_garbage_is_read_to_its_first_fault_and_no_further) {
  const char* given = std::getenv("MOBULA_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  SCOPED_TRACE(testing::Message() << "MOBULA_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::fill(memory_.begin(), memory_.end(), 0);
    MetricsWriter writer(region());
    for (int i = 0; i < 20; ++i) {
      writer.add({SeriesKind::kHistogram, "name", "help", {{"k", "v"}}, {1, 2, 3}});
    }
    for (int i = 0; i < 30; ++i) {
      region()[random() % 4096] = static_cast<std::byte>(random());
    }
    for (const SeriesValue& series : read()) {
      EXPECT_LE(series.spec.boundaries.size(), kBoundariesMax);
    }
  }
}

}  // namespace
}  // namespace mobula::shm
