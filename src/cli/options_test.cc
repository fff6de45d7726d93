#include "cli/options.h"

#include <gtest/gtest.h>

namespace mobula::cli {
namespace {

TEST(CommandLine, resources_are_whole_or_parts) {
  const auto resources = parse_resources(R"({"CPU": 2, "GPU": 0.5, "room": 0})");
  ASSERT_TRUE(resources.has_value());
  EXPECT_EQ(resources->get("CPU"), 20'000);
  EXPECT_EQ(resources->get("GPU"), 5'000);
  EXPECT_EQ(resources->amounts().size(), 2);
}

TEST(CommandLine, what_is_not_an_object_of_amounts_is_refused) {
  for (const char* text : {"", "[]", "{", R"({"CPU": "2"})", R"({"CPU": -1})", R"({"CPU": 1e30})",
                           R"({"CPU": null})"}) {
    EXPECT_FALSE(parse_resources(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace mobula::cli
