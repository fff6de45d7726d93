#include "core/tasks/overdue_watch.h"

#include <gtest/gtest.h>

namespace mobula::tasks {
namespace {

using namespace std::chrono_literals;

constexpr ChannelId kOne{1};
constexpr ChannelId kTwo{2};
constexpr Instant kStart{100s};

TEST(OverdueWatch, ATaskIsToldOnceWhenItsLimitAndTheSlackAreOver) {
  OverdueWatch watch(2s);
  EXPECT_FALSE(watch.saw(kOne, 7, 3s, kStart));
  EXPECT_FALSE(watch.saw(kOne, 7, 3s, kStart + 4999ms));
  EXPECT_TRUE(watch.saw(kOne, 7, 3s, kStart + 5s));
  EXPECT_FALSE(watch.saw(kOne, 7, 3s, kStart + 6s));
}

TEST(OverdueWatch, TheNextTaskOfAWorkerHasItsFullTime) {
  OverdueWatch watch(2s);
  EXPECT_FALSE(watch.saw(kOne, 7, 3s, kStart));
  EXPECT_FALSE(watch.saw(kOne, 8, 3s, kStart + 10s));
  EXPECT_TRUE(watch.saw(kOne, 8, 3s, kStart + 15s));
}

TEST(OverdueWatch, WorkersDoNotConcernEachOther) {
  OverdueWatch watch(2s);
  EXPECT_FALSE(watch.saw(kOne, 7, 1s, kStart));
  EXPECT_FALSE(watch.saw(kTwo, 7, 1s, kStart + 2s));
  EXPECT_TRUE(watch.saw(kOne, 7, 1s, kStart + 3s));
  EXPECT_FALSE(watch.saw(kTwo, 7, 1s, kStart + 3s));
}

TEST(OverdueWatch, WhatIsNotSeenInARoundIsForgotten) {
  OverdueWatch watch(2s);
  EXPECT_FALSE(watch.saw(kOne, 7, 1s, kStart));
  EXPECT_FALSE(watch.saw(kTwo, 9, 1s, kStart));
  watch.end_round();
  EXPECT_EQ(watch.size(), 2U);
  EXPECT_FALSE(watch.saw(kTwo, 9, 1s, kStart + 1s));
  watch.end_round();
  EXPECT_EQ(watch.size(), 1U);
  EXPECT_FALSE(watch.saw(kOne, 7, 1s, kStart + 10s)) << "it is seen for the first time again";
}

}  // namespace
}  // namespace mobula::tasks
