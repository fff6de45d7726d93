#include "node/session_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "node/machine.h"
#include "shm/memory.h"

namespace mobula::node {

namespace {

constexpr size_t kTokenBytes = 32;

Error errno_error(const std::string& what) {
  return {ErrorCode::kUnavailable, what + ": " + std::strerror(errno)};
}

std::string describe(const NodeOptions& options, NodeId node, const std::string& token) {
  nlohmann::json resources = nlohmann::json::object();
  for (const auto& [name, amount] : options.resources.amounts()) {
    resources[name] = static_cast<double>(amount) / static_cast<double>(kResourceUnit);
  }
  const nlohmann::json labels = nlohmann::json::parse(options.labels, nullptr, false);
  const nlohmann::json record = {
      {"format", 1},
      {"kind", options.is_standing() ? "standing" : "private"},
      {"pid", ::getpid()},
      {"token", token},
      {"node_id", fmt::format("{:08x}", number(node))},
      {"host", host_name()},
      {"started", std::time(nullptr)},
      {"version", options.version},
      {"resources", resources},
      {"object_store_memory", options.object_store_bytes},
      {"labels", labels.is_object() ? labels : nlohmann::json::object()}};
  return record.dump(2, ' ', true, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<std::string> make_token() {
  std::array<unsigned char, kTokenBytes> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return tl::unexpected(errno_error("getrandom"));
  }
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

bool same_token(std::string_view one, std::string_view other) {
  unsigned difference = one.size() == other.size() && !one.empty() ? 0 : 1;
  for (size_t i = 0; i < one.size() && i < other.size(); ++i) {
    difference |= static_cast<unsigned char>(one[i]) ^ static_cast<unsigned char>(other[i]);
  }
  return difference == 0;
}

Result<void> write_session_file(const NodeOptions& options, NodeId node, const std::string& token) {
  const std::string path = options.session_directory + "/session.json";
  const std::string unfinished = path + ".new";
  const std::string text = describe(options, node, token);
  const shm::Fd file(
      ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return tl::unexpected(errno_error(unfinished));
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return tl::unexpected(errno_error(unfinished));
  }
  if (::rename(unfinished.c_str(), path.c_str()) != 0) return tl::unexpected(errno_error(path));
  return {};
}

Result<void> remove_session_directory(const NodeOptions& options) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::error_code failed;
  std::vector<fs::path> paths;
  for (fs::directory_iterator entry(options.session_directory, ignored), end; entry != end;
       entry.increment(ignored)) {
    if (entry->path().filename() != kSessionLock) paths.push_back(entry->path());
  }
  for (const fs::path& path : paths) fs::remove_all(path, ignored);
  fs::remove_all(options.session_directory, failed);
  if (!options.session_link.empty()) fs::remove(options.session_link, ignored);
  if (failed) return fail(ErrorCode::kUnavailable, failed.message());
  return {};
}

}  // namespace mobula::node
