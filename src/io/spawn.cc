#include "io/spawn.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace mobula::io {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (const std::string& text : strings) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

// What the child needs, prepared by the parent: between fork and exec nothing may be allocated.
struct Prepared {
  const char* path;
  char* const* arguments;
  char* const* environment;
  const char* working_directory;  // Or null.
  const int* descriptors;
  int descriptor_count;
  uint64_t descriptors_max;
  int report;  // errno of a failure is written here; CLOEXEC.
  pid_t parent;
};

[[noreturn]] void give_up(const Prepared& child) {
  const int code = errno;
  [[maybe_unused]] const ssize_t written = ::write(child.report, &code, sizeof code);
  ::_exit(127);
}

void reset_signals() {
  sigset_t none;
  ::sigemptyset(&none);
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction normal {};
    normal.sa_handler = SIG_DFL;
    ::sigaction(signal, &normal, nullptr);  // Fails for the few that cannot be set.
  }
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Two steps, so that no descriptor is overwritten before it was moved.
void place_descriptors(Prepared& child) {
  std::array<int, 16> moved{};
  const int base = child.descriptor_count + 1;
  for (int i = 0; i < child.descriptor_count; ++i) {
    moved[static_cast<size_t>(i)] = ::fcntl(child.descriptors[i], F_DUPFD_CLOEXEC, base);
    if (moved[static_cast<size_t>(i)] < 0) give_up(child);
  }
  const int report = ::fcntl(child.report, F_DUPFD_CLOEXEC, base);
  if (report < 0) give_up(child);
  child.report = report;
  for (int i = 0; i < child.descriptor_count; ++i) {
    if (::dup2(moved[static_cast<size_t>(i)], i + 1) < 0) give_up(child);
  }
  const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || (null != 0 && ::dup2(null, 0) < 0)) give_up(child);
  if (null == 0) ::fcntl(0, F_SETFD, 0);
  // Everything of ours is CLOEXEC; this is for what libraries or our own parent left open.
  ::syscall(SYS_close_range, static_cast<unsigned>(base), ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
}

[[noreturn]] void run_child(Prepared& child) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != child.parent) ::_exit(127);  // It died before it could be told of.
  reset_signals();
  place_descriptors(child);
  if (child.descriptors_max != 0) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::min<rlim_t>(child.descriptors_max, limit.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (child.working_directory != nullptr && ::chdir(child.working_directory) != 0) give_up(child);
  ::execvpe(child.path, child.arguments, child.environment);
  give_up(child);
}

}  // namespace

Result<pid_t> spawn(const Program& program) {
  MOBULA_CHECK(program.descriptors.size() <= 16 && !program.arguments.empty());
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) {
    return fail(ErrorCode::kUnavailable, std::string("pipe: ") + std::strerror(errno));
  }
  const shm::Fd report_in(report[0]);
  shm::Fd report_out(report[1]);
  const std::vector<char*> arguments = pointers(program.arguments);
  const std::vector<char*> environment = pointers(program.environment);
  Prepared child{};
  child.path = program.path.c_str();
  child.arguments = arguments.data();
  child.environment = environment.data();
  child.working_directory =
      program.working_directory.empty() ? nullptr : program.working_directory.c_str();
  child.descriptors = program.descriptors.data();
  child.descriptor_count = static_cast<int>(program.descriptors.size());
  child.descriptors_max = program.descriptors_max;
  child.report = report_out.get();
  child.parent = ::getpid();

  // All signals are blocked until the child has reset their handlers.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(child);
  const int code = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return fail(ErrorCode::kUnavailable, std::string("fork: ") + std::strerror(code));

  report_out.reset();
  int failure = 0;
  ssize_t size = 0;
  do {
    size = ::read(report_in.get(), &failure, sizeof failure);
  } while (size < 0 && errno == EINTR);
  if (size != sizeof failure) return pid;  // Closed by exec: it runs.
  int status = 0;
  ::waitpid(pid, &status, 0);
  return fail(ErrorCode::kUnavailable,
              "cannot start '" + program.path + "': " + std::strerror(failure));
}

Result<shm::Fd> open_pidfd(pid_t pid) {
  shm::Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) {
    return fail(ErrorCode::kNotFound,
                "process " + std::to_string(pid) + ": " + std::strerror(errno));
  }
  return fd;
}

uint64_t descriptor_limit() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

uint64_t descriptor_limit_of(pid_t pid) {
  rlimit limit{};
  return ::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) == 0 ? limit.rlim_cur : 0;
}

uint64_t raise_descriptor_limit(uint64_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const uint64_t before = limit.rlim_cur;
  limit.rlim_cur = std::max<rlim_t>(limit.rlim_cur, std::min<rlim_t>(wanted, limit.rlim_max));
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return before;
}

}  // namespace mobula::io
