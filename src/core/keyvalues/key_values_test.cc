#include "core/keyvalues/key_values.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>

namespace mobula::keyvalues {
namespace {

std::string value_of(const KeyValues& table, std::string_view space, std::string_view key) {
  const std::string* value = table.get(space, key);
  return value == nullptr ? "(none)" : *value;
}

TEST(KeyValues, AKeyIsWhatWasPutLastInItsNamespace) {
  KeyValues table;
  EXPECT_TRUE(*table.put("", "a", "1", true));
  EXPECT_FALSE(*table.put("", "a", "2", true));
  EXPECT_TRUE(*table.put("n", "a", "3", true));
  EXPECT_EQ(value_of(table, "", "a"), "2");
  EXPECT_EQ(value_of(table, "n", "a"), "3");
  EXPECT_EQ(table.get("m", "a"), nullptr);
}

TEST(KeyValues, WithoutOverwritingWhatIsThereStays) {
  KeyValues table;
  EXPECT_TRUE(*table.put("", "a", "1", false));
  EXPECT_FALSE(*table.put("", "a", "2", false));
  EXPECT_EQ(value_of(table, "", "a"), "1");
}

TEST(KeyValues, PrefixesReachNoOtherNamespaceAndNoOtherKey) {
  KeyValues table;
  for (const char* key : {"p", "p1", "p2", "q", "o"}) EXPECT_TRUE(table.put("n", key, "", true));
  EXPECT_TRUE(table.put("n2", "p3", "", true));
  EXPECT_EQ(table.keys("n", "p"), (std::vector<std::string_view>{"p", "p1", "p2"}));
  EXPECT_EQ(table.keys("n", "").size(), 5U);
  EXPECT_EQ(table.remove_all("n", "p"), 3U);
  EXPECT_EQ(table.keys("n", ""), (std::vector<std::string_view>{"o", "q"}));
  EXPECT_EQ(table.size(), 3U);
}

TEST(KeyValues, WhatDoesNotFitIsRefusedAndChangesNothing) {
  KeyValues table;
  const std::string largest(KeyValues::kValueBytesMax, 'x');
  EXPECT_EQ(table.put("", "a", largest + "x", true).error().code, ErrorCode::kInvalidArgument);
  const std::string long_key(KeyValues::kKeyBytesMax + 1, 'k');
  EXPECT_EQ(table.put("", long_key, "", true).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(table.size(), 0U);
  int count = 0;
  while (table.put("", std::to_string(count), largest, true)) ++count;
  EXPECT_EQ(count, 7);  // The eighth would fill it to the last byte, without room for keys.
  EXPECT_EQ(table.put("", "more", largest, true).error().code, ErrorCode::kRetryLater);
  EXPECT_TRUE(table.put("", "0", largest, true)) << "of the same size in the place of another";
  table.check_invariants();
  EXPECT_TRUE(table.remove("", "0"));
  EXPECT_TRUE(table.put("", "more", largest, true));
}

// MOBULA_SEED=n replays one.
TEST(KeyValues, RandomCallsDoAsAMapDoes) {
  const char* seed = std::getenv("MOBULA_SEED");
  std::mt19937_64 random(seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10));
  KeyValues table;
  std::map<std::string, std::string> expected;  // Of one namespace among two.
  for (int step = 0; step < 20'000; ++step) {
    const bool other = random() % 4 == 0;
    const std::string key = std::to_string(random() % 60);
    const std::string value(random() % 20, 'v');
    const std::string_view space = other ? "other" : "";
    switch (random() % 4) {
      case 0:
      case 1: {
        const bool overwrite = random() % 2 == 0;
        const bool is_new = *table.put(space, key, value, overwrite);
        if (other) break;
        EXPECT_EQ(is_new, !expected.contains(key));
        if (is_new || overwrite) expected[key] = value;
        break;
      }
      case 2: {
        const bool removed = table.remove(space, key);
        if (other) break;
        EXPECT_EQ(removed, expected.erase(key) > 0);
        break;
      }
      default: {
        if (random() % 20 != 0) break;
        const size_t removed = table.remove_all(space, key);
        if (other) break;
        EXPECT_EQ(removed, std::erase_if(expected, [&](const auto& entry) {
                    return entry.first.starts_with(key);
                  }));
      }
    }
    table.check_invariants();
    EXPECT_EQ(table.keys("", "").size(), expected.size());
  }
  for (const auto& [key, value] : expected) EXPECT_EQ(value_of(table, "", key), value);
}

}  // namespace
}  // namespace mobula::keyvalues
