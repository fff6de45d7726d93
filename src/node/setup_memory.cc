#include "node/setup_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>

#include "io/large_packet.h"

namespace mobula::node {

namespace {

// Below what the kernel takes: there are arguments, too.
constexpr size_t kVariableBytesMax = 120 * 1024;
constexpr size_t kVariablesBytesMin = 96 * 1024;
constexpr size_t kVariablesBytesMax = 1024 * 1024;
constexpr size_t kPointerBytes = 9;  // And the NUL.

size_t variables_bytes_max() {
  rlimit stack{};
  if (::getrlimit(RLIMIT_STACK, &stack) != 0) return kVariablesBytesMin;
  return std::clamp<size_t>(stack.rlim_cur / 8, kVariablesBytesMin, kVariablesBytesMax);
}

// Looked at before a program can set any itself.
bool comes_first(std::string_view variable) {
  constexpr std::array<std::string_view, 9> kFirst = {"LD_",   "PYTHON", "MALLOC_", "GLIBC_", "LC_",
                                                      "PATH=", "HOME=",  "LANG=",   "TMPDIR="};
  return std::ranges::any_of(
      kFirst, [variable](std::string_view start) { return variable.starts_with(start); });
}

}  // namespace

Variables split_variables(const std::vector<std::string>& variables) {
  std::vector<const std::string*> order;
  order.reserve(variables.size());
  for (const std::string& variable : variables) order.push_back(&variable);
  std::ranges::stable_sort(order, [](const std::string* one, const std::string* other) {
    const bool is_first = comes_first(*one);
    if (is_first != comes_first(*other)) return is_first;
    return one->size() < other->size();
  });
  size_t left = variables_bytes_max();
  std::set<const std::string*> now;
  for (const std::string* variable : order) {
    const size_t size = variable->size() + kPointerBytes;
    if (size > std::min(left, kVariableBytesMax)) continue;
    left -= size;
    now.insert(variable);
  }
  Variables split;
  for (const std::string& variable : variables) {
    (now.contains(&variable) ? split.now : split.late).push_back(variable);
  }
  return split;
}

Result<shm::Fd> make_setup_memory(const SetupTexts& texts) {
  std::string bytes = std::to_string(texts.sys_path.size()) + '\0';
  for (const std::string& entry : texts.sys_path) bytes += entry + '\0';
  bytes += texts.environment_spec + '\0';
  for (const std::string& variable : texts.variables) bytes += variable + '\0';
  auto memory = io::fill_memory("mobula-setup", std::as_bytes(std::span(bytes)));
  MOBULA_TRY(memory);
  return std::move(*memory);
}

}  // namespace mobula::node
