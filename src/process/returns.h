#pragma once
// Returns: the return objects of a task, which most often is one: then it costs no memory of its own.
//
// Threads: guarded by the runtime's lock.

#include <cstddef>
#include <memory>
#include <vector>

#include "base/check.h"

namespace mobula::process {

struct Object;

class Returns {
 public:
  Object** begin() { return many_ ? many_->data() : &one_; }
  Object** end() { return begin() + size(); }
  Object* const* begin() const { return many_ ? many_->data() : &one_; }
  Object* const* end() const { return begin() + size(); }
  Object** data() { return begin(); }
  Object* const* data() const { return begin(); }
  size_t size() const { return many_ ? many_->size() : one_ != nullptr ? 1 : 0; }

  Object*& operator[](size_t index) { return begin()[index]; }
  Object*& at(size_t index) {
    MOBULA_CHECK(index < size());
    return begin()[index];
  }

  void push_back(Object* object) {
    if (size() == 0) {
      one_ = object;
      return;
    }
    if (!many_) many_ = std::make_unique<std::vector<Object*>>(1, one_);
    many_->push_back(object);
  }
  void clear() {
    one_ = nullptr;
    many_.reset();
  }

 private:
  Object* one_ = nullptr;
  std::unique_ptr<std::vector<Object*>> many_;  // If there are more than one.
};

}  // namespace mobula::process
