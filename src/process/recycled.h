#pragma once
// Recycled: makes and frees objects of one type, and keeps the memory of those that were freed last for the
// next ones. What a program has many of at a time, malloc() takes its time for.
//
// Threads: none of its own.
// Limits:  kKeptMax pieces of memory are kept.

#include <cstddef>
#include <memory>
#include <vector>

namespace mobula::process {

template <typename T>
class Recycled {
 public:
  Recycled() = default;
  ~Recycled() {
    for (T* memory : kept_) std::allocator<T>().deallocate(memory, 1);
  }
  Recycled(const Recycled&) = delete;
  Recycled& operator=(const Recycled&) = delete;

  T* make() {
    if (kept_.empty()) return std::construct_at(std::allocator<T>().allocate(1));
    T* memory = kept_.back();
    kept_.pop_back();
    return std::construct_at(memory);
  }
  void free(T* object) {
    std::destroy_at(object);
    if (kept_.size() < kKeptMax) {
      kept_.push_back(object);
    } else {
      std::allocator<T>().deallocate(object, 1);
    }
  }

 private:
  static constexpr size_t kKeptMax = 1024;
  std::vector<T*> kept_;
};

}  // namespace mobula::process
