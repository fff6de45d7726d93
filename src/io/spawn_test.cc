#include "io/spawn.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <set>
#include <thread>

#include "io/job_thread.h"
#include "io/signals.h"

namespace mobula::io {
namespace {

struct Output {
  shm::Fd reader;
  shm::Fd writer;
};
Output make_output() {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  return {shm::Fd(ends[0]), shm::Fd(ends[1])};
}
std::string read_all(const shm::Fd& fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  ssize_t size = 0;
  while ((size = ::read(fd.get(), buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  return text;
}

Program shell(const std::string& script, const Output& output) {
  Program program;
  program.path = "/bin/sh";
  program.arguments = {"sh", "-c", script};
  program.environment = {"PATH=/usr/bin:/bin", "GREETING=hello"};
  program.working_directory = "/";
  program.descriptors = {output.writer.get(), output.writer.get()};
  return program;
}

std::string run(const std::string& script) {
  Output output = make_output();
  const auto pid = spawn(shell(script, output));
  EXPECT_TRUE(pid.has_value());
  output.writer.reset();
  std::string text = read_all(output.reader);
  collect_child(*pid);
  return text;
}

TEST(Spawn, a_program_gets_its_environment_its_folder_and_an_empty_input) {
  EXPECT_EQ(run("echo $GREETING; pwd; cat"), "hello\n/\n");
}

TEST(Spawn, a_program_leads_a_session_of_its_own) {
  EXPECT_EQ(
      run("test \"$(ps -o sid= -p $$)\" -eq $$ && test $(ps -o pgid= -p $$) -eq $$ && echo own"),
      "own\n");
}

TEST(Spawn, a_program_inherits_no_other_descriptor) {
  // One that is not CLOEXEC, as a careless library leaves it.
  const shm::Fd careless(::open("/dev/zero", O_RDONLY));
  EXPECT_EQ(run("ls -l /proc/self/fd | grep -c zero"), "0\n");
}

TEST(Spawn, signals_that_are_blocked_or_ignored_here_are_neither_there) {
  sigset_t set;
  sigset_t before;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &set, &before);
  const auto ignored = ::signal(SIGUSR2, SIG_IGN);
  // Of grep itself: a shell that has just forked has its signals blocked for a moment.
  const std::string text = run("exec grep -E 'Sig(Blk|Ign)' /proc/self/status");
  ::signal(SIGUSR2, ignored);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  unsigned long long blocked = ~0ULL;
  unsigned long long ignoring = ~0ULL;
  ASSERT_EQ(std::sscanf(text.c_str(), "SigBlk: %llx SigIgn: %llx", &blocked, &ignoring), 2) << text;
  EXPECT_EQ(blocked, 0u);
  // The C library keeps 32 and 33 to itself and lets nobody set them; make leaves them ignored.
  EXPECT_EQ(ignoring & ~(3ULL << 31), 0u) << text;
}

TEST(Spawn, a_program_that_does_not_exist_is_an_error_with_its_name) {
  Program program;
  program.path = "/nonexistent/python";
  program.arguments = {"python"};
  const auto pid = spawn(program);
  ASSERT_FALSE(pid.has_value());
  EXPECT_NE(pid.error().message.find("/nonexistent/python"), std::string::npos);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);  // Not even a zombie is left.
}

TEST(Spawn, a_missing_working_directory_is_an_error) {
  const Output output = make_output();
  Program program = shell("true", output);
  program.working_directory = "/nonexistent";
  EXPECT_FALSE(spawn(program).has_value());
}

TEST(Spawn, a_pidfd_is_readable_when_the_process_has_ended) {
  const Output output = make_output();
  const auto pid = spawn(shell("exec sleep 60", output));
  ASSERT_TRUE(pid.has_value());
  const auto pidfd = open_pidfd(*pid);
  ASSERT_TRUE(pidfd.has_value());
  ::kill(*pid, SIGKILL);
  pollfd ready{pidfd->get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 10'000), 1);
  EXPECT_EQ(collect_child(*pid).signal, SIGKILL);
}

TEST(Children, an_ended_child_is_seen_before_it_is_collected_and_says_how_it_ended) {
  const Output output = make_output();
  const auto exits = spawn(shell("exit 3", output));
  ASSERT_TRUE(exits.has_value());
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(*exits), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(peek_ended_child(), *exits);
  EXPECT_EQ(peek_ended_child(), *exits);  // Looking does not collect.
  const ExitStatus status = collect_child(*exits);
  EXPECT_EQ(status.signal, 0);
  EXPECT_EQ(status.exit_code, 3);
  EXPECT_EQ(peek_ended_child(), std::nullopt);
}

TEST(Children, the_loop_is_told_of_signals) {
  auto loop = std::move(*Loop::open());
  std::vector<int> seen;
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const auto signals = Signals::open(*loop, {SIGCHLD, SIGUSR1}, [&](int signal) {
    seen.push_back(signal);
    if (signal == SIGCHLD) loop->stop();
  });
  ASSERT_TRUE(signals.has_value());
  ::raise(SIGUSR1);
  const Output output = make_output();
  const auto pid = spawn(shell("true", output));
  ASSERT_TRUE(pid.has_value());
  loop->run();
  collect_child(*pid);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(std::set<int>(seen.begin(), seen.end()), (std::set<int>{SIGUSR1, SIGCHLD}));
}

TEST(JobThread, jobs_go_on_until_they_say_that_they_are_done) {
  std::atomic<int> steps{0};
  std::atomic<bool> second{false};
  JobThread thread("test", JobPriority::kIdle);
  thread.add([&] { return ++steps < 5; });
  thread.add([&] {
    second.store(true);
    second.notify_one();
    return false;
  });
  second.wait(false);
  std::atomic<bool> last{false};
  thread.add([&] {
    if (steps.load() < 5) return true;
    last.store(true);
    last.notify_one();
    return false;
  });
  last.wait(false);
  EXPECT_EQ(steps.load(), 5);
}

TEST(JobThread, the_end_does_not_wait_for_jobs_that_never_end) {
  std::atomic<int> steps{0};
  {
    JobThread thread("test", JobPriority::kIdle);
    thread.add([&] {
      ++steps;
      steps.notify_one();
      return true;
    });
    steps.wait(0);
  }
  EXPECT_GE(steps.load(), 1);
}

}  // namespace
}  // namespace mobula::io
