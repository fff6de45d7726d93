#pragma once
// BundleRef says in which placement group, and where in it, a task or an actor is to be. A placement
// group is a list of bundles of resources that are reserved together.
//
// Threads: none; a value.

#include <compare>
#include <cstdint>

#include "base/ids.h"

namespace mobula {

constexpr PlacementGroupId kNoGroup{0};
constexpr int32_t kAnyBundle = -1;

struct BundleRef {
  PlacementGroupId group = kNoGroup;  // kNoGroup: it takes what the node has left.
  int32_t index = kAnyBundle;
  bool captures = false;  // What it submits goes into the group, too, unless it says otherwise.

  auto operator<=>(const BundleRef&) const = default;
  bool in_group() const { return group != kNoGroup; }
  // The place of what is submitted from there without a place of its own.
  BundleRef of_children() const {
    return captures ? BundleRef{group, kAnyBundle, true} : BundleRef{};
  }
};

}  // namespace mobula
