#pragma once
// ObjectPool allocates Objects in chunks, so that all of a process can be looked through.
//
// Chunks without objects are given back, but one. Those with objects outlive the pool: a binding may
// hold pointers into them until it lets go.
//
// Threads: guarded by the runtime's lock.

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "process/object.h"

namespace mobula::process {

class ObjectPool {
 public:
  ObjectPool() = default;
  ~ObjectPool();
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;

  Object* make();
  void free(Object* object);
  size_t size() const { return size_; }

  template <typename Visit>
  void for_each(Visit visit) const {
    for (Chunk* chunk : chunks_) visit_chunk(*chunk, visit);
  }
  // The same in pieces, between which objects may come and go: those of a chunk that is there still.
  struct ChunkName {
    void* chunk;
  };
  std::vector<ChunkName> chunks() const;
  template <typename Visit>
  void for_each_in(ChunkName name, Visit visit) const {
    auto* chunk = static_cast<Chunk*>(name.chunk);
    if (chunks_.contains(chunk)) visit_chunk(*chunk, visit);
  }

 private:
  static constexpr size_t kChunkBytes = 64 * 1024;  // And its alignment: a pointer tells its chunk.
  static constexpr uint32_t kSlots = (kChunkBytes - 256) / sizeof(Object);
  static constexpr uint16_t kNone = 0xffff;

  struct Chunk {
    std::bitset<kSlots> live;
    uint32_t used = 0;
    uint16_t first_free = kNone;  // Of slots that were used before; each names the next.
    uint16_t first_fresh = 0;     // From here on none was used.
    Object* at(uint32_t slot) {
      return reinterpret_cast<Object*>(reinterpret_cast<std::byte*>(this) + 256) + slot;
    }
  };
  static_assert(sizeof(Chunk) <= 256 && kSlots < kNone);

  template <typename Visit>
  static void visit_chunk(Chunk& chunk, Visit& visit) {
    for (uint32_t i = 0; i < kSlots; ++i) {
      if (chunk.live[i]) visit(*chunk.at(i));
    }
  }
  void give_back(Chunk* chunk);

  std::unordered_set<Chunk*> chunks_;
  std::vector<Chunk*> roomy_;  // With a free slot.
  size_t size_ = 0;
};

}  // namespace mobula::process
