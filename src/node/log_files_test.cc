#include "node/log_files.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace mobula::node {
namespace {

constexpr LogLimits kLimits{
    .file_bytes_max = 4096, .ended_bytes_max = 64 * 1024, .ended_streams_max = 50};

class LogFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "mobula-log-files-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  static std::string content(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  uint64_t bytes_in_directory() const {
    uint64_t sum = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
      sum += entry.file_size();
    }
    return sum;
  }

  std::string directory_;
  LogFiles files_{kLimits};
};

TEST_F(LogFilesTest, lines_follow_each_other) {
  LogFile file{path("one"), 0, 0};
  files_.append(file, "first\n");
  files_.append(file, "second\n");
  EXPECT_EQ(content(path("one")), "first\nsecond\n");
}

TEST_F(LogFilesTest, of_a_long_stream_the_newest_part_is_kept) {
  LogFile file{path("one"), 0, 0};
  const std::string block(kLimits.file_bytes_max / 4, 'x');
  for (int i = 0; i < 40; ++i) files_.append(file, block);
  files_.append(file, "last words\n");
  EXPECT_TRUE(content(path("one")).ends_with("last words\n"));
  EXPECT_LE(bytes_in_directory(), 2 * kLimits.file_bytes_max);
  EXPECT_GE(bytes_in_directory(), kLimits.file_bytes_max);
}

TEST_F(LogFilesTest, many_ended_streams_leave_a_bounded_number_of_files) {
  for (size_t i = 0; i < kLimits.ended_streams_max + 10; ++i) {
    LogFile file{path(std::to_string(i)), 0, 0};
    files_.append(file, "text\n");
    files_.end(std::move(file));
  }
  EXPECT_FALSE(std::filesystem::exists(path("9")));
  EXPECT_TRUE(std::filesystem::exists(path("10")));
  EXPECT_TRUE(std::filesystem::exists(path(std::to_string(kLimits.ended_streams_max + 9))));
}

TEST_F(LogFilesTest, large_ended_streams_go_by_their_size) {
  const std::string block(kLimits.file_bytes_max / 2, 'x');
  const size_t streams = kLimits.ended_bytes_max / kLimits.file_bytes_max + 5;
  for (size_t i = 0; i < streams; ++i) {
    LogFile file{path(std::to_string(i)), 0, 0};
    for (int k = 0; k < 4; ++k) files_.append(file, block);
    files_.end(std::move(file));
  }
  EXPECT_FALSE(std::filesystem::exists(path("0")));
  EXPECT_FALSE(std::filesystem::exists(path("0.1")));
  EXPECT_LE(bytes_in_directory(), kLimits.ended_bytes_max);
}

TEST_F(LogFilesTest, what_others_wrote_counts_and_empty_files_go_at_once) {
  std::ofstream(path("empty")).close();
  std::ofstream(path("written")) << "text";
  files_.end_written(path("empty"));
  files_.end_written(path("written"));
  files_.end_written(path("missing"));
  EXPECT_FALSE(std::filesystem::exists(path("empty")));
  EXPECT_TRUE(std::filesystem::exists(path("written")));
}

TEST_F(LogFilesTest, a_file_that_cannot_be_written_is_no_catastrophe) {
  LogFile file{path("no/such/folder"), 0, 0};
  files_.append(file, "text\n");
  files_.end(std::move(file));
  EXPECT_EQ(bytes_in_directory(), 0);
}

}  // namespace
}  // namespace mobula::node
