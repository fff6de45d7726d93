#include "node/log_pump.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <tuple>

namespace mobula::node {
namespace {

constexpr ProcessId kDriver{1};
constexpr ProcessId kWorker{2};

struct Printed {
  std::string name;
  std::string text;
  bool is_stderr;
  bool operator==(const Printed&) const = default;
};
void PrintTo(const Printed& line, std::ostream* out) {
  *out << "(" << line.name << ") " << line.text << (line.is_stderr ? " [stderr]" : "");
}

class LogPumpTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "mobula-log-test-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    loop_ = std::move(*io::Loop::open());
    doorbell_ = std::move(*Doorbell::open());
    sessions_ = std::make_unique<Sessions>(*doorbell_);
    auto pair = io::make_packet_pair();
    ASSERT_TRUE(pair.has_value());
    Session& driver = sessions_->add(kDriver, JobId{1}, true);
    driver.socket = std::move(*io::PacketSocket::open(*loop_, std::move(pair->ours),
                                                      {[](auto, auto) {}, [](const auto&) {}}));
    driver_ = std::move(pair->theirs);
    pump_ = std::make_unique<LogPump>(*loop_, *sessions_, directory_);
    shm::Fd output = pipe(output_);
    shm::Fd errors = pipe(errors_);
    ASSERT_TRUE(pump_->add(kWorker, kDriver, std::move(output), std::move(errors)).has_value());
    pump_->set_pid(kWorker, 4711);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Returns the daemon's end.
  static shm::Fd pipe(shm::Fd& writer) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
    writer = shm::Fd(ends[1]);
    return shm::Fd(ends[0]);
  }
  static void print(const shm::Fd& to, std::string_view text) {
    ASSERT_EQ(::write(to.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // What the driver has been sent.
  std::vector<Printed> printed() {
    std::vector<Printed> lines;
    std::vector<std::byte> bytes(io::kPacketBytesMax);
    ssize_t size = 0;
    while ((size = ::recv(driver_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0) {
      const auto message =
          wire::ToProcessMessage::parse(std::span(bytes).first(static_cast<size_t>(size)));
      EXPECT_TRUE(message.has_value());
      for (const auto* line : *message->root().body_as_LogLines()->lines()) {
        lines.push_back({line->name()->str(), line->text()->str(), line->is_stderr()});
      }
    }
    return lines;
  }
  std::string file(const std::string& name) const {
    std::ifstream in(directory_ + "/" + name);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

  std::string directory_;
  std::unique_ptr<io::Loop> loop_;
  std::unique_ptr<Doorbell> doorbell_;
  std::unique_ptr<Sessions> sessions_;
  std::unique_ptr<LogPump> pump_;
  shm::Fd driver_;
  shm::Fd output_;
  shm::Fd errors_;
};

TEST_F(LogPumpTest, lines_have_the_name_of_the_mark_before_them) {
  print(output_, "a\n\x01\x02mobula:name:f\nb\n\nc\r\n\x01\x02mobula:name:\nd\n");
  print(errors_, "e\n");
  EXPECT_EQ(pump_->finish(kWorker), "e");
  const std::vector<Printed> expected = {{"", "a", false},  {"f", "b", false}, {"f", "", false},
                                         {"f", "c", false}, {"", "d", false},  {"", "e", true}};
  EXPECT_EQ(printed(), expected);
  EXPECT_EQ(file("worker-2-4711.out"), "a\nb\n\nc\nd\n");
  EXPECT_EQ(file("worker-2-4711.err"), "e\n");
}

TEST_F(LogPumpTest, a_line_that_comes_in_pieces_is_one_line_and_the_last_needs_no_end) {
  print(output_, "be");
  const auto stop = loop_->at(monotonic_now() + std::chrono::milliseconds(5), [&] {
    print(output_, "gun\nunfinished");
    output_.reset();
    loop_->stop();
  });
  loop_->run();
  pump_->finish(kWorker);
  const std::vector<Printed> expected = {{"", "begun", false}, {"", "unfinished", false}};
  EXPECT_EQ(printed(), expected);
}

TEST_F(LogPumpTest, a_line_without_end_is_cut_in_pieces) {
  const std::string text(3 * kLineBytesMax + 10, 'x');
  print(output_, text + "\nshort\n");
  pump_->finish(kWorker);
  const std::vector<Printed> lines = printed();
  ASSERT_EQ(lines.size(), 5);
  std::string together;
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_LE(lines[i].text.size(), kLineBytesMax);
    together += lines[i].text;
  }
  EXPECT_EQ(together, text);
  EXPECT_EQ(lines[4].text, "short");
}

TEST_F(LogPumpTest, a_long_line_is_cut_between_characters) {
  std::string text = "x";
  while (text.size() < 4 * kLineBytesMax) text += "\xF0\x9F\x90\x9F";
  print(output_, text + "\n");
  pump_->finish(kWorker);
  std::string together;
  for (const Printed& line : printed()) {
    EXPECT_LE(line.text.size(), kLineBytesMax);
    together += line.text;
  }
  EXPECT_EQ(together, text);
}

TEST_F(LogPumpTest, what_is_not_utf_8_is_replaced_and_what_is_stays) {
  print(output_, "gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x9F\n\xFF\xC3\n\xED\xA0\x80\n\xC0\xAF\n");
  pump_->finish(kWorker);
  const std::string bad = "\xEF\xBF\xBD";
  const std::vector<Printed> expected = {{"", "gr\xC3\xBC\xC3\x9F \xF0\x9F\x90\x9F", false},
                                         {"", bad + bad, false},
                                         {"", bad + bad + bad, false},
                                         {"", bad + bad, false}};
  EXPECT_EQ(printed(), expected);
}

TEST_F(LogPumpTest, the_last_lines_of_stderr_are_kept_for_a_death) {
  for (int i = 0; i < 100; ++i) print(errors_, "line " + std::to_string(i) + "\n");
  const std::string tail = pump_->finish(kWorker);
  EXPECT_TRUE(tail.starts_with("line 80\n")) << tail;
  EXPECT_TRUE(tail.ends_with("line 99")) << tail;
}

TEST_F(LogPumpTest, lines_for_a_driver_that_does_not_read_are_dropped_and_counted) {
  const std::string line = std::string(1000, 'x') + "\n";
  std::string slice;
  for (int i = 0; i < 60; ++i) slice += line;
  size_t sent = 0;
  // The kernel takes some, the outbox its bound; then lines are dropped.
  for (int round = 0; round < 150; ++round) {
    print(output_, slice);
    sent += 60;
    const auto stop =
        loop_->at(monotonic_now() + std::chrono::milliseconds(1), [&] { loop_->stop(); });
    loop_->run();
  }
  EXPECT_LE(sessions_->find(kDriver)->socket->queued_bytes(), kUnreadBytesMax + (128 << 10));
  size_t arrived = 0;
  std::string notice;
  const auto count = [&] {
    for (const Printed& printed_line : printed()) {
      if (printed_line.name == "node") {
        notice = printed_line.text;
      } else {
        ++arrived;
      }
    }
  };
  while (sessions_->find(kDriver)->socket->queued_bytes() > 0) {
    count();
    const auto stop = loop_->at(monotonic_now(), [&] { loop_->stop(); });
    loop_->run();
  }
  print(output_, "after\n");
  pump_->finish(kWorker);
  count();
  ASSERT_FALSE(notice.empty());
  EXPECT_EQ(std::to_string(sent + 1 - arrived), notice.substr(1, notice.find(' ') - 1));
}

class LogPumpHomeTest : public LogPumpTest {
 protected:
  void SetUp() override {
    LogPumpTest::SetUp();
    Session& worker = sessions_->add(kWorker, JobId{1}, false);
    auto memory = shm::create_memory("home", shm::kHomeBytes);
    worker.home = std::move(*shm::Mapping::map(*memory, shm::kHomeBytes, shm::Access::kReadWrite));
    home_ = &shm::home_header(worker.home.data());
  }
  static std::string mark(const std::string& next, const std::string& before) {
    return std::string(kNameMark) + next + std::string(1, '\0') + before + "\n";
  }
  void run_for(std::chrono::milliseconds time) {
    const auto stop = loop_->at(monotonic_now() + time, [&] { loop_->stop(); });
    loop_->run();
  }

  shm::HomeHeader* home_ = nullptr;
};

TEST_F(LogPumpHomeTest, text_without_marks_is_named_after_the_home_region) {
  home_->output.store("f");
  print(output_, "a\nb\n");
  run_for(std::chrono::milliseconds(20));
  home_->output.store("g");
  print(output_, "c\n");
  pump_->finish(kWorker);
  EXPECT_EQ(printed(),
            (std::vector<Printed>{{"f", "a", false}, {"f", "b", false}, {"g", "c", false}}));
  EXPECT_EQ(home_->stream_reads.load() % 2, 0);
  EXPECT_GT(home_->stream_reads.load(), 0);
}

TEST_F(LogPumpHomeTest, a_mark_names_what_stands_before_and_behind_it) {
  home_->output.store("h");
  print(output_, "of f\n" + mark("g", "f") + "of g" + mark("h", "g") + "of h\n");
  pump_->finish(kWorker);
  EXPECT_EQ(printed(), (std::vector<Printed>{
                           {"f", "of f", false}, {"g", "of g", false}, {"h", "of h", false}}));
}

TEST_F(LogPumpHomeTest, another_name_ends_a_line_that_was_begun) {
  home_->output.store("f");
  print(output_, "begun");
  run_for(std::chrono::milliseconds(20));
  home_->output.store("g");
  print(output_, "whole\n");
  run_for(std::chrono::milliseconds(20));
  EXPECT_EQ(printed(), (std::vector<Printed>{{"f", "begun", false}, {"g", "whole", false}}));
}

TEST_F(LogPumpHomeTest, a_line_without_end_is_passed_on_after_a_while_and_its_end_is_no_line) {
  home_->output.store("f");
  print(output_, "begun");
  run_for(kLineEndsWithin / 4);
  EXPECT_EQ(printed(), std::vector<Printed>{});
  run_for(3 * kLineEndsWithin);
  EXPECT_EQ(printed(), (std::vector<Printed>{{"f", "begun", false}}));
  print(output_, "\n\nnext\n");
  run_for(std::chrono::milliseconds(20));
  EXPECT_EQ(printed(), (std::vector<Printed>{{"f", "", false}, {"f", "next", false}}));
}

TEST_F(LogPumpHomeTest, a_mark_that_comes_in_pieces_is_one) {
  home_->output.store("g");
  const std::string whole = mark("g", "f");
  for (const size_t cut : {size_t{1}, size_t{5}, kNameMark.size(), whole.size() - 1}) {
    print(output_, "of f\n" + whole.substr(0, cut));
    run_for(std::chrono::milliseconds(5));
    print(output_, whole.substr(cut) + "of g\n");
    run_for(std::chrono::milliseconds(5));
    const std::vector<Printed> lines = printed();
    ASSERT_EQ(lines.size(), 2);
    EXPECT_EQ(lines[0].text, "of f");
    EXPECT_EQ(lines[1], (Printed{"g", "of g", false}));
  }
}

TEST_F(LogPumpHomeTest, what_looks_like_a_mark_and_never_ends_is_text) {
  home_->output.store("f");
  print(output_, std::string(kNameMark) + std::string(2 * kNameMarkBytesMax, 'x') + "\n");
  print(output_, "last \x01");
  pump_->finish(kWorker);
  const std::vector<Printed> lines = printed();
  ASSERT_EQ(lines.size(), 2);
  EXPECT_EQ(lines[0].text.size(), kNameMark.size() + 2 * kNameMarkBytesMax);
  EXPECT_EQ(lines[1], (Printed{"f", "last \x01", false}));
}

TEST_F(LogPumpTest, a_process_that_keeps_the_pipe_open_does_not_keep_the_daemon) {
  print(output_, "last");
  const shm::Fd held(::dup(output_.get()));
  output_.reset();
  pump_->finish(kWorker);
  EXPECT_EQ(printed(), (std::vector<Printed>{{"", "last", false}}));
}

}  // namespace
}  // namespace mobula::node
