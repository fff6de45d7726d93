#include "base/resources.h"

#include <cstdio>
#include <limits>

namespace mobula {

void ResourceSet::set(std::string_view name, ResourceAmount amount) {
  const auto found = amounts_.find(name);
  if (amount == 0) {
    if (found != amounts_.end()) amounts_.erase(found);
    return;
  }
  if (found != amounts_.end()) {
    found->second = amount;
  } else {
    amounts_.emplace(name, amount);
  }
}

ResourceAmount ResourceSet::get(std::string_view name) const {
  const auto found = amounts_.find(name);
  return found == amounts_.end() ? 0 : found->second;
}

void ResourceSet::add(const ResourceSet& other) {
  for (const auto& [name, amount] : other.amounts_) {
    ResourceAmount sum = 0;
    if (__builtin_add_overflow(get(name), amount, &sum)) {
      using Limits = std::numeric_limits<ResourceAmount>;
      sum = amount > 0 ? Limits::max() : Limits::min();
    }
    set(name, sum);
  }
}

void ResourceSet::subtract(const ResourceSet& other) {
  for (const auto& [name, amount] : other.amounts_) set(name, get(name) - amount);
}

bool ResourceSet::covers(const ResourceSet& request) const {
  for (const auto& [name, amount] : request.amounts_) {
    if (amount > get(name)) return false;
  }
  return true;
}

std::string ResourceSet::to_string() const {
  constexpr size_t kShownMax = 20;
  constexpr size_t kNameShownMax = 200;
  std::string text;
  size_t shown = 0;
  for (const auto& [name, amount] : amounts_) {
    if (shown == kShownMax) {
      return text + " and " + std::to_string(amounts_.size() - shown) + " more";
    }
    ++shown;
    char number[48];
    if (amount % kResourceUnit == 0) {  // Bytes of memory, too, to the last digit.
      std::snprintf(number, sizeof number, "%lld", static_cast<long long>(amount / kResourceUnit));
    } else {
      std::snprintf(number, sizeof number, "%.10g",
                    static_cast<double>(amount) / static_cast<double>(kResourceUnit));
    }
    if (!text.empty()) text += ", ";
    text += name.size() <= kNameShownMax ? name : name.substr(0, kNameShownMax) + "...";
    text += std::string(": ") + number;
  }
  return text;
}

}  // namespace mobula
