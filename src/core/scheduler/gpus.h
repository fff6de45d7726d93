#pragma once
// Gpus knows which GPU of the node has how much left, and picks by index.
//
// A request of whole GPUs gets that many untouched ones, the lowest indices first. A fraction
// shares one GPU: the one with the least left that still has enough, so that others stay whole.
//
// Threads: none; a value.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/resources.h"

namespace mobula::scheduler {

struct GpuShare {
  uint32_t index = 0;
  ResourceAmount amount = 0;
};

class Gpus {
 public:
  explicit Gpus(size_t count) : left_(count, kResourceUnit) {}
  // Of so many, these shares alone.
  Gpus(size_t count, const std::vector<GpuShare>& shares) : left_(count, 0) { give_back(shares); }

  // Zero, a fraction of one, or a whole number.
  static bool is_valid(ResourceAmount request);

  bool fits(ResourceAmount request) const;
  // It must fit. Ascending indices.
  std::vector<GpuShare> take(ResourceAmount request);
  // All that is left of the GPUs nearest to serving `request`, which does not fit now.
  std::vector<GpuShare> withhold(ResourceAmount request);
  void give_back(const std::vector<GpuShare>& shares);
  std::vector<GpuShare> all_left() const;

  size_t count() const { return left_.size(); }
  ResourceAmount left(size_t index) const { return left_[index]; }

 private:
  std::vector<ResourceAmount> left_;
};

}  // namespace mobula::scheduler
