#pragma once
// ResourceSet: amounts of named resources in fixed point (1/10,000), the precision users are
// promised. "CPU" and "GPU" are names like any other. A set never holds a zero amount.
//
// Threads: none; a value.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace mobula {

// 10,000 is one whole CPU, GPU or custom unit.
using ResourceAmount = int64_t;
constexpr ResourceAmount kResourceUnit = 10'000;
// Of what somebody asks for or has; a few such amounts can be added up.
constexpr ResourceAmount kAmountMax = 1'000'000'000'000'000'000;

constexpr std::string_view kCpu = "CPU";
constexpr std::string_view kGpu = "GPU";

class ResourceSet {
 public:
  ResourceSet() = default;

  // Amounts below zero are allowed: a just-woken parent may overdraw the node's CPUs.
  void set(std::string_view name, ResourceAmount amount);
  ResourceAmount get(std::string_view name) const;
  bool empty() const { return amounts_.empty(); }

  // Ends at the largest amount there is.
  void add(const ResourceSet& other);
  void subtract(const ResourceSet& other);
  // True if every amount of `request` is at most ours.
  bool covers(const ResourceSet& request) const;

  const std::map<std::string, ResourceAmount, std::less<>>& amounts() const { return amounts_; }
  bool operator==(const ResourceSet&) const = default;
  // For people: "CPU: 2, GPU: 0.5".
  std::string to_string() const;

 private:
  std::map<std::string, ResourceAmount, std::less<>> amounts_;  // Ordered: decisions follow it.
};

}  // namespace mobula
