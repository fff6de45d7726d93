#include "node/machine.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace mobula::node {

namespace {

constexpr uint64_t kUnlimited = ~uint64_t{0};
constexpr const char* kCgroupRoot = "/sys/fs/cgroup";

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<uint64_t> read_number(const std::string& path) {
  const std::string text = read_file(path);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

// The number after `name` in lines of "name number".
std::optional<uint64_t> find_number(const std::string& path, const std::string& name) {
  std::istringstream lines(read_file(path));
  std::string word;
  uint64_t value = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    if (words >> word >> value && word == name) return value;
  }
  return std::nullopt;
}

struct MemoryGroup {
  std::string folder;
  bool is_v2 = false;
};

// Our memory cgroup and its parents, innermost first. In a container the path that the kernel names
// is often not visible; the root of the file system then is our group.
std::vector<MemoryGroup> memory_groups() {
  std::vector<MemoryGroup> groups;
  std::istringstream lines(read_file("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool is_v2 = controllers == ",,";
    if (!is_v2 && controllers.find(",memory,") == std::string::npos) continue;
    const std::string root = std::string(kCgroupRoot) + (is_v2 ? "" : "/memory");
    std::string path = line.substr(second + 1);
    while (true) {
      groups.push_back({root + path, is_v2});
      if (path.empty() || path == "/") break;
      path.resize(path.find_last_of('/'));
    }
    if (path.empty()) continue;
    groups.push_back({root, is_v2});
  }
  return groups;
}

}  // namespace

uint64_t memory_available() {
  return find_number("/proc/meminfo", "MemAvailable:").value_or(kUnlimited / 1024) * 1024;
}

uint64_t cgroup_memory_available() {
  uint64_t available = kUnlimited;
  for (const MemoryGroup& group : memory_groups()) {
    const char* limit_name = group.is_v2 ? "/memory.max" : "/memory.limit_in_bytes";
    const char* usage_name = group.is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
    const auto limit = read_number(group.folder + limit_name);  // "max" is not a number.
    const auto usage = read_number(group.folder + usage_name);
    if (!limit || !usage) continue;
    // File pages that nobody uses count as use but can be had.
    const char* inactive = group.is_v2 ? "inactive_file" : "total_inactive_file";
    const uint64_t reclaimable =
        std::min(find_number(group.folder + "/memory.stat", inactive).value_or(0), *usage);
    const uint64_t used = *usage - reclaimable;
    available = std::min(available, *limit > used ? *limit - used : 0);
  }
  return available;
}

namespace {

double stalled_share(const std::string& path) {
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    const size_t at = line.find("avg10=");
    if (!line.starts_with("full") || at == std::string::npos) continue;
    return std::strtod(line.c_str() + at + 6, nullptr);
  }
  return 0;
}

// Bytes until its threshold is reached; less than 0 above it.
double left_of(const memory::Figures& figures, double threshold) {
  return static_cast<double>(figures.limit) * threshold - static_cast<double>(figures.used);
}

}  // namespace

memory::Figures memory_figures(double threshold) {
  memory::Figures tightest;
  const uint64_t total = find_number("/proc/meminfo", "MemTotal:").value_or(0) * 1024;
  tightest.limit = total;
  tightest.used = total - std::min(total, memory_available());
  tightest.stalled = stalled_share("/proc/pressure/memory");
  tightest.limit_name = "of the machine";
  for (const MemoryGroup& group : memory_groups()) {
    const char* limit_name = group.is_v2 ? "/memory.max" : "/memory.limit_in_bytes";
    const char* usage_name = group.is_v2 ? "/memory.current" : "/memory.usage_in_bytes";
    const auto limit = read_number(group.folder + limit_name);
    const auto usage = read_number(group.folder + usage_name);
    if (!limit || !usage || *limit == 0 || *limit > total) continue;  // v1 says "no limit" so.
    const char* inactive = group.is_v2 ? "inactive_file" : "total_inactive_file";
    const uint64_t reclaimable =
        std::min(find_number(group.folder + "/memory.stat", inactive).value_or(0), *usage);
    memory::Figures figures{*usage - reclaimable, *limit, tightest.stalled,
                            "of cgroup " + group.folder.substr(std::string(kCgroupRoot).size())};
    if (group.is_v2) figures.stalled = stalled_share(group.folder + "/memory.pressure");
    if (left_of(figures, threshold) < left_of(tightest, threshold)) tightest = figures;
  }
  return tightest;
}

uint64_t process_memory(int pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/status";
  return (find_number(path, "RssAnon:").value_or(0) + find_number(path, "VmSwap:").value_or(0)) *
         1024;
}

uint64_t oom_kill_count() {
  for (const MemoryGroup& group : memory_groups()) {
    const char* name = group.is_v2 ? "/memory.events" : "/memory.oom_control";
    if (const auto count = find_number(group.folder + name, "oom_kill")) return *count;
  }
  return 0;
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

bool is_stopped(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t end_of_name = line.rfind(')');  // It may contain anything.
  if (end_of_name == std::string::npos || end_of_name + 2 >= line.size()) return false;
  const char state = line[end_of_name + 2];
  return state == 'T' || state == 't';
}

}  // namespace mobula::node
