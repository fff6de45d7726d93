#include "process/output_label.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "process/runtime_test_support.h"
#include "shm/memory.h"

namespace mobula::process {
namespace {

class OutputLabelTest : public testing::Test {
 protected:
  void SetUp() override {
    auto memory = shm::create_memory("home", shm::kHomeBytes);
    ASSERT_TRUE(memory.has_value());
    home_ = std::move(*shm::Mapping::map(*memory, shm::kHomeBytes, shm::Access::kReadWrite));
    label_.open(home_.data());
    for (size_t i = 0; i < kOutputPipes; ++i) {
      std::array<int, 2> ends{};
      ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
      readers_[i] = shm::Fd(ends[0]);
      writers_[i] = shm::Fd(ends[1]);
    }
    label_.watch({writers_[0].get(), writers_[1].get()});
  }
  void change(std::string_view name, Instant now = {}, bool wrote = false) {
    label_.change(name, now, wrote, gate_);
  }
  void write(size_t pipe, std::string_view text) {
    ASSERT_EQ(::write(writers_[pipe].get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  }
  std::string read(size_t pipe) {
    std::array<char, 1 << 16> buffer{};
    const ssize_t size = ::read(readers_[pipe].get(), buffer.data(), buffer.size());
    return size > 0 ? std::string(buffer.data(), static_cast<size_t>(size)) : "";
  }
  shm::HomeHeader& home() { return shm::home_header(home_.data()); }
  static std::string mark(const std::string& next, const std::string& before) {
    return "\x01\x02mobula:name:" + next + std::string(1, '\0') + before + "\n";
  }

  shm::Mapping home_;
  std::array<shm::Fd, kOutputPipes> readers_;
  std::array<shm::Fd, kOutputPipes> writers_;
  OutputLabel label_;
  NoGate gate_;
};

TEST_F(OutputLabelTest, a_new_name_stands_in_the_home_region) {
  EXPECT_EQ(home().output.load(), std::nullopt);
  change("f");
  EXPECT_EQ(home().output.load(), "f");
  change("");
  EXPECT_EQ(home().output.load(), "");
  EXPECT_EQ(read(0) + read(1), "");
}

TEST_F(OutputLabelTest, what_is_unread_is_divided_by_a_mark_with_both_names) {
  change("f");
  write(0, "of f\n");
  change("g", {}, true);
  write(0, "of g\n");
  change("h", {}, true);
  EXPECT_EQ(read(0), "of f\n" + mark("g", "f") + "of g\n" + mark("h", "g"));
  EXPECT_EQ(read(1), "");
}

TEST_F(OutputLabelTest, without_a_sign_it_looks_as_often_as_time_allows) {
  Instant now = std::chrono::seconds(1);
  change("f", now);
  write(1, "unseen by the task\n");
  change("g", now += std::chrono::seconds(1));  // A long task.
  EXPECT_EQ(read(1), "unseen by the task\n" + mark("g", "f"));
  // Short ones use up what there is.
  for (int i = 0; i < 1000; ++i)
    change(i % 2 == 0 ? "f" : "g", now += std::chrono::nanoseconds(50));
  write(1, "late\n");
  change("h", now);
  EXPECT_EQ(read(1), "late\n");
  // That the daemon has read something is a sign.
  write(1, "later\n");
  home().stream_reads.store(2);
  change("i", now);
  EXPECT_EQ(read(1), "later\n" + mark("i", "h"));
}

TEST_F(OutputLabelTest, while_the_daemon_reads_a_mark_makes_sure) {
  change("f");
  home().stream_reads.store(1);
  change("g");
  EXPECT_EQ(read(0), mark("g", "f"));
  EXPECT_EQ(read(1), mark("g", "f"));
}

TEST_F(OutputLabelTest, a_long_name_is_cut_between_characters) {
  std::string name(shm::OutputLabelCell::kBytesMax - 1, 'x');
  change(name + "\xC3\xBC");
  EXPECT_EQ(home().output.load(), name);
}

TEST_F(OutputLabelTest, a_full_pipe_that_nobody_reads_does_not_hold_up_tasks_for_long) {
  change("f");
  const std::string page(4096, 'x');
  while (::write(writers_[0].get(), page.data(), page.size()) > 0) {
  }
  const Instant begun = monotonic_now();
  change("g", begun, true);
  EXPECT_GE(monotonic_now() - begun, std::chrono::milliseconds(900));
  const Instant again = monotonic_now();
  for (int i = 0; i < 100; ++i) change(i % 2 == 0 ? "f" : "g", again, true);
  EXPECT_LT(monotonic_now() - again, std::chrono::milliseconds(900));
  EXPECT_EQ(home().output.load(), "g");
}

TEST_F(OutputLabelTest, names_with_newlines_stay_on_the_line_of_the_mark) {
  change("a\nb");
  write(0, "x");
  change("c\nd", {}, true);
  EXPECT_EQ(read(0), "x" + mark("c d", "a b"));
}

}  // namespace
}  // namespace mobula::process
