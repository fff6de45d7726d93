#include "core/tasks/lineage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

namespace mobula::tasks {
namespace {

ObjectId object(uint64_t index) { return {NodeId{7}, ProcessId{1}, index}; }
constexpr CallId f{1};
constexpr CallId g{2};
constexpr CallId h{3};

class Kept : public testing::Test {
 protected:
  ~Kept() override { lineage.check_invariants(); }

  void keep(CallId call, std::vector<ObjectId> results, std::vector<ObjectId> arguments,
            uint64_t bytes = 10) {
    lineage.keep(call, bytes, results, arguments, effects);
    lineage.check_invariants();
  }
  std::vector<CallId> forgotten() {
    std::vector<CallId> calls;
    for (const Lineage::Forgotten& gone : effects.forgotten) calls.push_back(gone.call);
    effects.forgotten.clear();
    return calls;
  }
  void expect_no_more() { EXPECT_TRUE(effects.empty()); }

  Lineage lineage{{.bytes_max = 100}};
  Lineage::Effects effects;
};

TEST_F(Kept, a_task_is_kept_while_one_of_its_results_is_wanted) {
  keep(f, {object(1), object(2)}, {object(9)});
  EXPECT_EQ(lineage.task_of(object(1)), f);
  EXPECT_TRUE(lineage.is_argument(object(9)));
  lineage.on_result_gone(object(1), effects);
  EXPECT_EQ(lineage.task_of(object(1)), std::nullopt);
  expect_no_more();
  lineage.on_result_gone(object(2), effects);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_EQ(std::exchange(effects.unused, {}), std::vector{object(9)});
  EXPECT_EQ(lineage.bytes(), 0);
  expect_no_more();
}

TEST_F(Kept, an_argument_of_two_tasks_is_used_until_the_last_is_forgotten) {
  keep(f, {object(1)}, {object(9), object(9)});
  keep(g, {object(2)}, {object(9)});
  lineage.on_result_gone(object(1), effects);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_TRUE(lineage.is_argument(object(9)));
  expect_no_more();
  lineage.on_result_gone(object(2), effects);
  EXPECT_EQ(forgotten(), std::vector{g});
  EXPECT_EQ(std::exchange(effects.unused, {}), std::vector{object(9)});
  expect_no_more();
}

TEST_F(Kept, the_oldest_is_evicted_first_and_its_results_are_named) {
  keep(f, {object(1)}, {}, 60);
  keep(g, {object(2)}, {}, 30);
  expect_no_more();
  keep(h, {object(3)}, {}, 30);
  ASSERT_EQ(effects.forgotten.size(), 1);
  EXPECT_EQ(effects.forgotten[0].call, f);
  EXPECT_EQ(effects.forgotten[0].results, std::vector{object(1)});
  EXPECT_EQ(lineage.task_of(object(1)), std::nullopt);
  EXPECT_EQ(lineage.task_of(object(2)), g);
  EXPECT_EQ(lineage.evicted(), 1);
}

TEST_F(Kept, a_task_larger_than_the_cap_is_not_kept_at_all) {
  keep(f, {object(1)}, {object(9)}, 101);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_EQ(std::exchange(effects.unused, {}), std::vector{object(9)});
  EXPECT_EQ(lineage.task_count(), 0);
  expect_no_more();
}

TEST_F(Kept, what_runs_again_is_not_evicted) {
  keep(f, {object(1)}, {}, 60);
  lineage.begin(f);
  keep(g, {object(2)}, {}, 60);
  EXPECT_EQ(forgotten(), std::vector{g});
  EXPECT_EQ(lineage.task_of(object(1)), f);
  lineage.end(f, effects);
  expect_no_more();
  keep(h, {object(3)}, {}, 60);
  EXPECT_EQ(forgotten(), std::vector{f});
}

TEST_F(Kept, a_task_whose_results_go_while_it_runs_again_is_forgotten_at_its_end) {
  keep(f, {object(1)}, {object(9)});
  lineage.begin(f);
  lineage.on_result_gone(object(1), effects);
  expect_no_more();
  lineage.end(f, effects);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_EQ(std::exchange(effects.unused, {}), std::vector{object(9)});
  expect_no_more();
}

TEST_F(Kept, a_task_that_fails_when_it_runs_again_is_forgotten) {
  keep(f, {object(1)}, {});
  lineage.begin(f);
  lineage.forget(f, effects);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_EQ(lineage.task_of(object(1)), std::nullopt);
  expect_no_more();
}

TEST_F(Kept, a_generator_is_kept_while_it_runs_and_while_one_of_its_items_is_wanted) {
  lineage.open(f, {10, 5}, std::vector{object(9)}, effects);
  lineage.check_invariants();
  EXPECT_TRUE(lineage.add_result(f, object(1), 1, effects));
  EXPECT_TRUE(lineage.add_result(f, object(2), 2, effects));
  EXPECT_EQ(lineage.bytes(), 20);
  lineage.on_result_gone(object(1), effects);
  lineage.on_result_gone(object(2), effects);
  lineage.check_invariants();
  EXPECT_EQ(lineage.bytes(), 10);
  expect_no_more();  // It runs.
  EXPECT_TRUE(lineage.add_result(f, object(3), 3, effects));
  EXPECT_EQ(lineage.results_of(f), std::vector{object(3)});
  EXPECT_EQ(lineage.number_of(object(3)), 3);
  lineage.end(f, effects);
  expect_no_more();
  lineage.on_result_gone(object(3), effects);
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_EQ(std::exchange(effects.unused, {}), std::vector{object(9)});
}

TEST_F(Kept, a_generator_that_runs_again_while_it_runs_is_kept_until_both_have_ended) {
  lineage.open(f, {10, 5}, {}, effects);
  lineage.add_result(f, object(1), 1, effects);
  lineage.begin(f);
  lineage.on_result_gone(object(1), effects);
  lineage.end(f, effects);
  EXPECT_TRUE(lineage.is_running(f));
  expect_no_more();
  lineage.end(f, effects);
  EXPECT_EQ(forgotten(), std::vector{f});
}

TEST_F(Kept, items_push_out_older_tasks_and_then_find_no_room) {
  keep(f, {object(1)}, {}, 60);
  lineage.open(g, {40, 30}, {}, effects);
  EXPECT_TRUE(lineage.add_result(g, object(2), 2, effects));
  EXPECT_EQ(forgotten(), std::vector{f});
  EXPECT_TRUE(lineage.add_result(g, object(3), 3, effects));
  EXPECT_FALSE(lineage.add_result(g, object(4), 4, effects));
  EXPECT_EQ(lineage.bytes(), 100);
  EXPECT_EQ(lineage.task_of(object(4)), std::nullopt);
  lineage.end(g, effects);
  expect_no_more();
}

TEST_F(Kept, a_generator_without_end_keeps_no_list_of_what_has_gone) {
  lineage.open(f, {10, 1}, {}, effects);
  for (uint64_t i = 1; i <= 10'000; ++i) {
    ASSERT_TRUE(lineage.add_result(f, object(i), i, effects));
    if (i > 10) lineage.on_result_gone(object(i - 10), effects);
  }
  EXPECT_EQ(lineage.results_of(f).size(), 10);
  EXPECT_EQ(lineage.bytes(), 20);
  lineage.forget(f, effects);
  EXPECT_EQ(forgotten(), std::vector{f});
}

// A random history against what can be said without any cleverness.
TEST(LineageRandom, the_books_balance_and_the_cap_holds) {
  const char* text = std::getenv("MOBULA_SEED");
  const uint64_t seed = text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
  std::mt19937_64 random(seed);
  Lineage lineage({.bytes_max = 2000});
  std::map<CallId, std::set<ObjectId>> wanted;  // By kept task.
  std::map<CallId, int> running;                // So many runs of it go on.
  uint64_t next = 1;
  for (int step = 0; step < 30'000; step++) {
    Lineage::Effects effects;
    const auto some = [&]() {
      auto task = wanted.begin();
      std::advance(task, static_cast<int64_t>(random() % wanted.size()));
      return task->first;
    };
    if (wanted.empty() || random() % 3 == 0) {
      const CallId call{next++};
      std::vector<ObjectId> results;
      for (uint64_t i = 0; i <= random() % 3; i++) results.push_back(object(next++));
      std::vector<ObjectId> arguments;
      for (uint64_t i = 0; i < random() % 3; i++) arguments.push_back(object(1 + random() % next));
      wanted[call] = {results.begin(), results.end()};
      lineage.keep(call, 20 + random() % 200, results, arguments, effects);
    } else if (random() % 2 == 0) {
      const CallId call = some();
      if (wanted[call].empty()) continue;
      const ObjectId result = *wanted[call].begin();
      wanted[call].erase(result);
      lineage.on_result_gone(result, effects);
    } else if (random() % 4 == 0) {
      const CallId call{next++};
      wanted[call] = {};
      running[call] = 1;
      lineage.open(call, {20, 10}, {}, effects);
    } else if (const CallId call = some(); lineage.is_running(call) && random() % 2 == 0) {
      const ObjectId result = object(next++);
      // A task that is kept by keep() costs nothing more: it is not added to in earnest.
      if (lineage.add_result(call, result, result.index, effects)) wanted[call].insert(result);
    } else if (running[call] == 0 || random() % 4 == 0) {
      ++running[call];
      lineage.begin(call);
    } else if (random() % 4 == 0) {
      running.erase(call);
      lineage.forget(call, effects);
    } else {
      if (--running[call] == 0) running.erase(call);
      lineage.end(call, effects);
    }
    for (const Lineage::Forgotten& gone : effects.forgotten) {
      EXPECT_FALSE(running.contains(gone.call)) << "seed " << seed;
      EXPECT_TRUE(wanted.erase(gone.call) == 1) << "seed " << seed;
    }
    for (const ObjectId unused : effects.unused) EXPECT_FALSE(lineage.is_argument(unused));
    lineage.check_invariants();
    EXPECT_EQ(lineage.task_count(), wanted.size());
    for (const auto& [call, results] : wanted) {
      for (const ObjectId result : results) EXPECT_EQ(lineage.task_of(result), call);
    }
  }
  EXPECT_GT(lineage.evicted(), 100);
}

}  // namespace
}  // namespace mobula::tasks
