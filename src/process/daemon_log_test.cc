#include "process/daemon_log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace mobula::process {
namespace {

class DaemonLogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "mobula-daemon-log-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& text) const {
    std::ofstream(directory_ + "/daemon.log", std::ios::binary) << text;
  }

  std::string directory_;
};

TEST_F(DaemonLogTest, everyday_lines_say_nothing) {
  EXPECT_EQ(last_complaints(directory_), "");
  write(
      "2026-01-02T03:04:05.000006 info node=1 event=started\n2026-01-02T03:04:05.000006 debug x\n");
  EXPECT_EQ(last_complaints(directory_), "");
}

TEST_F(DaemonLogTest, what_was_wrong_is_said) {
  write(
      "2026-01-02T03:04:05.000006 info node=1 event=started\n"
      "2026-01-02T03:04:06.000006 error event=bad\n"
      "check failed: a == b (file.cc:12)\n");
  EXPECT_EQ(last_complaints(directory_),
            "\n2026-01-02T03:04:06.000006 error event=bad\ncheck failed: a == b (file.cc:12)");
}

TEST_F(DaemonLogTest, of_a_long_log_only_the_end_is_read_and_told) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "a complaint " + std::to_string(i) + "\n";
  write(text);
  const std::string said = last_complaints(directory_);
  EXPECT_LT(said.size(), 1000);
  EXPECT_TRUE(said.ends_with("\na complaint 99999"));
}

}  // namespace
}  // namespace mobula::process
