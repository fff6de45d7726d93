#include "core/scheduler/gpus.h"

#include <algorithm>

#include "base/check.h"

namespace mobula::scheduler {

bool Gpus::is_valid(ResourceAmount request) {
  return request >= 0 && (request <= kResourceUnit || request % kResourceUnit == 0);
}

bool Gpus::fits(ResourceAmount request) const {
  if (request < kResourceUnit) {
    return request == 0 ||
           std::ranges::any_of(left_, [&](ResourceAmount left) { return left >= request; });
  }
  return std::ranges::count(left_, kResourceUnit) >= request / kResourceUnit;
}

std::vector<GpuShare> Gpus::take(ResourceAmount request) {
  MOBULA_CHECK(is_valid(request) && fits(request));
  std::vector<GpuShare> shares;
  if (request == 0) return shares;
  if (request < kResourceUnit) {
    size_t best = left_.size();
    for (size_t index = 0; index < left_.size(); ++index) {
      if (left_[index] < request) continue;
      if (best == left_.size() || left_[index] < left_[best]) best = index;
    }
    left_[best] -= request;
    shares.push_back({static_cast<uint32_t>(best), request});
    return shares;
  }
  ResourceAmount missing = request;
  for (size_t index = 0; index < left_.size() && missing > 0; ++index) {
    if (left_[index] != kResourceUnit) continue;
    left_[index] = 0;
    missing -= kResourceUnit;
    shares.push_back({static_cast<uint32_t>(index), kResourceUnit});
  }
  return shares;
}

std::vector<GpuShare> Gpus::withhold(ResourceAmount request) {
  std::vector<uint32_t> nearest(left_.size());
  for (uint32_t index = 0; index < nearest.size(); ++index) nearest[index] = index;
  std::ranges::stable_sort(nearest, [&](uint32_t a, uint32_t b) { return left_[a] > left_[b]; });
  const auto wanted = static_cast<size_t>((request + kResourceUnit - 1) / kResourceUnit);
  nearest.resize(std::min(wanted, nearest.size()));

  std::vector<GpuShare> shares;
  for (const uint32_t index : nearest) {
    shares.push_back({index, left_[index]});
    left_[index] = 0;
  }
  return shares;
}

void Gpus::give_back(const std::vector<GpuShare>& shares) {
  for (const GpuShare& share : shares) {
    MOBULA_CHECK(share.index < left_.size());
    left_[share.index] += share.amount;
    MOBULA_CHECK(left_[share.index] <= kResourceUnit);
  }
}

std::vector<GpuShare> Gpus::all_left() const {
  std::vector<GpuShare> shares;
  for (uint32_t index = 0; index < left_.size(); ++index) {
    if (left_[index] > 0) shares.push_back({index, left_[index]});
  }
  return shares;
}

}  // namespace mobula::scheduler
