#include "cli/options.h"

#include <gtest/gtest.h>

namespace mobula::cli {
namespace {

TEST(CommandLine, resources_are_whole_or_parts) {
  const auto settings = parse_settings(
      R"({"resources": {"CPU": 2, "GPU": 0.5, "room": 0}, "labels": {"zone": "a"}})");
  ASSERT_TRUE(settings.has_value());
  EXPECT_EQ(settings->resources.get("CPU"), 20'000);
  EXPECT_EQ(settings->resources.get("GPU"), 5'000);
  EXPECT_EQ(settings->resources.amounts().size(), 2);
  EXPECT_EQ(settings->labels, R"({"zone":"a"})");
}

TEST(CommandLine, what_is_not_an_object_of_amounts_is_refused) {
  for (const char* text : {"", "[]", "{", R"({"CPU": "2"})", R"({"CPU": -1})", R"({"CPU": 1e30})",
                           R"({"CPU": null})"}) {
    const std::string json = std::string(R"({"resources": )") + text + "}";
    EXPECT_FALSE(parse_settings(json).has_value()) << text;
  }
}

}  // namespace
}  // namespace mobula::cli
