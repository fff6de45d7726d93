#include "core/tasks/item_rebuild.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

namespace mobula::tasks {
namespace {

using Place = ItemRebuild::Place;
using Numbers = std::vector<uint64_t>;

TEST(ItemRebuild, the_first_lost_item_starts_a_run_and_is_taken_from_it) {
  ItemRebuild items;
  EXPECT_EQ(items.lose(2), Place::kStartRun);
  EXPECT_FALSE(items.on_item(0));
  EXPECT_FALSE(items.on_item(1));
  EXPECT_TRUE(items.on_item(2));
  EXPECT_FALSE(items.on_item(3));
  const ItemRebuild::Ended ended = items.on_end();
  EXPECT_TRUE(ended.missing.empty());
  EXPECT_FALSE(ended.again);
  EXPECT_FALSE(items.is_running());
}

TEST(ItemRebuild, what_the_run_has_not_passed_is_taken_from_it_too) {
  ItemRebuild items;
  items.lose(1);
  items.on_item(0);
  EXPECT_EQ(items.lose(3), Place::kThisRun);
  EXPECT_EQ(items.lose(3), Place::kThisRun);
  EXPECT_TRUE(items.on_item(1));
  EXPECT_FALSE(items.on_item(2));
  EXPECT_TRUE(items.on_item(3));
  EXPECT_TRUE(items.has_all());
}

TEST(ItemRebuild, what_the_run_has_passed_needs_another_one) {
  ItemRebuild items;
  items.lose(1);
  items.on_item(0);
  EXPECT_EQ(items.lose(0), Place::kNextRun);
  EXPECT_TRUE(items.on_item(1));
  EXPECT_EQ(items.lose(1), Place::kNextRun);  // Lost once more.
  EXPECT_TRUE(items.on_end().again);
  EXPECT_TRUE(items.is_running());
  EXPECT_TRUE(items.on_item(0));
  EXPECT_TRUE(items.on_item(1));
  EXPECT_FALSE(items.on_end().again);
}

TEST(ItemRebuild, a_run_that_yields_too_few_items_says_which_are_missing) {
  ItemRebuild items;
  items.lose(1);
  items.lose(5);
  items.lose(7);
  for (const uint64_t number : {0U, 1U, 2U}) items.on_item(number);
  const ItemRebuild::Ended ended = items.on_end();
  EXPECT_EQ(ended.missing, (Numbers{5, 7}));
  EXPECT_FALSE(ended.again);
}

TEST(ItemRebuild, a_run_that_begins_again_takes_each_item_once) {
  ItemRebuild items;
  items.lose(0);
  items.lose(1);
  EXPECT_TRUE(items.on_item(0));
  EXPECT_FALSE(items.on_item(0));  // The worker died; another begins.
  EXPECT_TRUE(items.on_item(1));
}

TEST(ItemRebuild, what_is_lost_when_a_run_was_closed_is_for_the_next) {
  ItemRebuild items;
  items.lose(0);
  items.on_item(0);
  items.close();
  EXPECT_EQ(items.lose(4), Place::kNextRun);
  const ItemRebuild::Ended ended = items.on_end();
  EXPECT_TRUE(ended.missing.empty() && ended.again);
  EXPECT_EQ(items.lose(6), Place::kThisRun);
}

TEST(ItemRebuild, a_run_that_cannot_be_started_leaves_all_missing) {
  ItemRebuild items;
  items.lose(0);
  items.on_item(0);
  items.lose(0);
  EXPECT_TRUE(items.on_end().again);
  EXPECT_EQ(items.on_end().missing, Numbers{0});
  EXPECT_FALSE(items.is_running());
}

// A random history: what is lost is taken once, in the end, or said to be missing.
TEST(ItemRebuildRandom, each_lost_item_comes_back_once_or_is_missing) {
  const char* text = std::getenv("MOBULA_SEED");
  const uint64_t seed = text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; round++) {
    ItemRebuild items;
    std::set<uint64_t> lost;
    uint64_t yielded = 0;
    const uint64_t count = random() % 8;
    for (int step = 0; step < 60; step++) {
      const uint64_t what = random() % 6;
      if (const uint64_t lost_now = random() % 8; what == 0 && !lost.contains(lost_now)) {
        const bool was_running = items.is_running();
        const Place place = items.lose(lost_now);
        lost.insert(lost_now);
        EXPECT_EQ(place == Place::kStartRun, !was_running) << "seed " << seed;
        if (place == Place::kStartRun) yielded = 0;
      } else if (what == 1 && items.is_running() && random() % 4 == 0) {
        yielded = 0;  // Its worker crashes.
      } else if (items.is_running() && yielded < count) {
        if (items.on_item(yielded)) {
          EXPECT_EQ(lost.erase(yielded), 1) << "seed " << seed;
        }
        ++yielded;
        if (items.has_all() && random() % 2 == 0) items.close();
      } else if (items.is_running()) {
        const ItemRebuild::Ended ended = items.on_end();
        for (const uint64_t number : ended.missing) {
          EXPECT_GE(number, count) << "seed " << seed;
          EXPECT_EQ(lost.erase(number), 1) << "seed " << seed;
        }
        EXPECT_EQ(ended.again, !lost.empty()) << "seed " << seed;
        yielded = 0;
      }
      items.check_invariants();
    }
  }
}

}  // namespace
}  // namespace mobula::tasks
