#include "core/scheduler/gpus.h"

#include <gtest/gtest.h>

namespace mobula::scheduler {
namespace {

constexpr ResourceAmount kHalf = kResourceUnit / 2;
constexpr ResourceAmount kQuarter = kResourceUnit / 4;

std::vector<uint32_t> indices(const std::vector<GpuShare>& shares) {
  std::vector<uint32_t> found;
  for (const GpuShare& share : shares) found.push_back(share.index);
  return found;
}

using Indices = std::vector<uint32_t>;

TEST(Gpus, whole_requests_get_distinct_indices_from_the_lowest) {
  Gpus gpus(3);
  EXPECT_EQ(indices(gpus.take(2 * kResourceUnit)), (Indices{0, 1}));
  EXPECT_EQ(indices(gpus.take(kResourceUnit)), (Indices{2}));
  EXPECT_FALSE(gpus.fits(kResourceUnit));
  EXPECT_FALSE(gpus.fits(1));
  EXPECT_TRUE(gpus.fits(0));
}

TEST(Gpus, fractions_share_the_fullest_gpu_that_has_room) {
  Gpus gpus(2);
  EXPECT_EQ(indices(gpus.take(kHalf)), (Indices{0}));
  EXPECT_EQ(indices(gpus.take(3 * kQuarter)), (Indices{1}));
  EXPECT_EQ(indices(gpus.take(kQuarter)), (Indices{1}));
  EXPECT_EQ(indices(gpus.take(kHalf)), (Indices{0}));
  EXPECT_FALSE(gpus.fits(1));
}

TEST(Gpus, two_halves_of_different_gpus_are_not_a_whole_one) {
  Gpus gpus(2);
  gpus.take(kHalf);
  gpus.take(3 * kQuarter);
  EXPECT_FALSE(gpus.fits(kResourceUnit));
  EXPECT_TRUE(gpus.fits(kHalf));
}

TEST(Gpus, what_is_given_back_can_be_taken_again) {
  Gpus gpus(1);
  const auto half = gpus.take(kHalf);
  const auto other = gpus.take(kHalf);
  gpus.give_back(half);
  EXPECT_FALSE(gpus.fits(kResourceUnit));
  gpus.give_back(other);
  EXPECT_TRUE(gpus.fits(kResourceUnit));
}

TEST(Gpus, withholding_saves_the_emptiest_gpus_up) {
  Gpus gpus(3);
  gpus.take(kHalf);                                 // 0 has a half left,
  const auto whole = gpus.take(2 * kResourceUnit);  // 1 and 2 nothing,
  gpus.give_back({{2, kResourceUnit}});             // then 2 all of it.
  const auto withheld = gpus.withhold(2 * kResourceUnit);
  EXPECT_EQ(indices(withheld), (Indices{2, 0}));
  EXPECT_FALSE(gpus.fits(1));
  gpus.give_back(withheld);
  EXPECT_EQ(gpus.left(0), kHalf);
  EXPECT_EQ(gpus.left(2), kResourceUnit);
}

TEST(Gpus, more_than_one_must_be_whole) {
  EXPECT_TRUE(Gpus::is_valid(0));
  EXPECT_TRUE(Gpus::is_valid(1));
  EXPECT_TRUE(Gpus::is_valid(3 * kResourceUnit));
  EXPECT_FALSE(Gpus::is_valid(kResourceUnit + kHalf));
  EXPECT_FALSE(Gpus::is_valid(-1));
}

}  // namespace
}  // namespace mobula::scheduler
