#include "cli/options.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace mobula::cli {

namespace {

// Of amounts: what is left of 64 bits in fixed point, with room for sums.
constexpr double kAmountMax = 1e14;

}  // namespace

Result<ResourceSet> parse_resources(const std::string& json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  if (!parsed.is_object()) {
    return fail(ErrorCode::kInvalidArgument, "--resources must be a JSON object");
  }
  ResourceSet resources;
  for (const auto& [name, amount] : parsed.items()) {
    const double value = amount.is_number() ? amount.get<double>() : -1.0;
    if (!(value >= 0 && value <= kAmountMax)) {
      return fail(ErrorCode::kInvalidArgument,
                  "--resources: the amount of '" + name + "' must be a number from 0 to 1e14");
    }
    resources.set(name, std::llround(value * static_cast<double>(kResourceUnit)));
  }
  return resources;
}

}  // namespace mobula::cli
