#include "base/text.h"

#include <gtest/gtest.h>

namespace mobula {
namespace {

constexpr std::string_view kFish = "\xF0\x9F\x90\x9F";

TEST(CutText, a_short_text_stays_whole) {
  EXPECT_EQ(cut_text("abc", 3), "abc");
  EXPECT_EQ(cut_text("", 0), "");
  EXPECT_EQ(cut_text_head("abc", 3), "abc");
}

TEST(CutText, no_character_is_torn) {
  const std::string text = std::string(kFish) + std::string(kFish);
  for (size_t bytes_max = 0; bytes_max <= text.size(); ++bytes_max) {
    const size_t whole = bytes_max / 4 * 4;
    EXPECT_EQ(cut_text(text, bytes_max), text.substr(0, whole)) << bytes_max;
    EXPECT_EQ(cut_text_head(text, bytes_max), text.substr(text.size() - whole)) << bytes_max;
  }
}

TEST(CutText, what_is_no_utf_8_is_cut_where_it_was_asked) {
  const std::string text(10, '\x80');
  EXPECT_EQ(cut_text(text, 7).size(), 7);
  EXPECT_EQ(cut_text("\xFF\xFF\xFF", 2).size(), 2);
}

TEST(ValidUtf8, bytes_that_are_no_characters_are_replaced_one_by_one) {
  EXPECT_EQ(valid_utf8(kFish), kFish);
  EXPECT_EQ(valid_utf8("a\xC3"), "a\xEF\xBF\xBD");
  EXPECT_EQ(valid_utf8("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

}  // namespace
}  // namespace mobula
