#include "process/object_pool.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace mobula::process {

ObjectPool::~ObjectPool() {
  for (Chunk* chunk : chunks_) {
    if (chunk->used == 0) std::free(chunk);
  }
}

std::vector<ObjectPool::ChunkName> ObjectPool::chunks() const {
  std::vector<ChunkName> names;
  for (Chunk* chunk : chunks_) names.push_back({chunk});
  return names;
}

Object* ObjectPool::make() {
  if (roomy_.empty()) {
    void* memory = std::aligned_alloc(kChunkBytes, kChunkBytes);
    MOBULA_CHECK(memory != nullptr);
    auto* chunk = std::construct_at(static_cast<Chunk*>(memory));
    chunks_.insert(chunk);
    roomy_.push_back(chunk);
  }
  Chunk& chunk = *roomy_.back();
  uint16_t slot = chunk.first_free;
  if (slot != kNone) {
    std::memcpy(&chunk.first_free, static_cast<void*>(chunk.at(slot)), sizeof chunk.first_free);
  } else {
    slot = chunk.first_fresh++;
  }
  chunk.live[slot] = true;
  if (++chunk.used == kSlots) roomy_.pop_back();
  ++size_;
  return std::construct_at(chunk.at(slot));
}

void ObjectPool::free(Object* object) {
  auto* chunk = reinterpret_cast<Chunk*>(reinterpret_cast<uintptr_t>(object) & ~(kChunkBytes - 1));
  const auto slot = static_cast<uint16_t>(object - chunk->at(0));
  MOBULA_CHECK(slot < kSlots && chunk->live[slot]);
  std::destroy_at(object);
  std::memcpy(static_cast<void*>(object), &chunk->first_free, sizeof chunk->first_free);
  chunk->first_free = slot;
  chunk->live[slot] = false;
  --size_;
  if (chunk->used-- == kSlots) roomy_.push_back(chunk);
  if (chunk->used == 0 && roomy_.size() > 1) give_back(chunk);
}

void ObjectPool::give_back(Chunk* chunk) {
  std::erase(roomy_, chunk);
  chunks_.erase(chunk);
  std::free(chunk);
}

}  // namespace mobula::process
