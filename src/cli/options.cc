#include "cli/options.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

namespace mobula::cli {

namespace {

// Of amounts: what is left of 64 bits in fixed point, with room for sums.
constexpr double kAmountMax = 1e14;

Result<ResourceSet> resources_of(const nlohmann::json& amounts) {
  if (!amounts.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "the resources must be a JSON object");
  }
  ResourceSet resources;
  for (const auto& [name, amount] : amounts.items()) {
    const double value = amount.is_number() ? amount.get<double>() : -1.0;
    if (!(value >= 0 && value <= kAmountMax)) {
      return fail(ErrorCode::kInvalidArgument,
                  "the amount of '" + name + "' must be a number from 0 to 1e14");
    }
    resources.set(name, std::llround(value * static_cast<double>(kResourceUnit)));
  }
  return resources;
}

}  // namespace

Result<Settings> parse_settings(const std::string& json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "settings are expected on standard input, as JSON");
  }
  auto resources = resources_of(parsed.value("resources", nlohmann::json()));
  MOBULA_TRY(resources);
  const auto labels = parsed.value("labels", nlohmann::json::object());
  return Settings{std::move(*resources),
                  labels.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)};
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 1 << 16> part;
  while (true) {
    const ssize_t size = ::read(fd, part.data(), part.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(part.data(), static_cast<size_t>(size));
  }
}

}  // namespace mobula::cli
