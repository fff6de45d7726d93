// RuntimeImpl: objects, their counts, and what happens when refs cross process boundaries.

#include <algorithm>
#include <cstring>

#include "process/runtime_impl.h"
#include "process/unhandled_errors.h"
#include "wire/frame_reader.h"

namespace mobula::process {

namespace {

std::vector<ObjectId> ids_of(std::span<Object* const> objects) {
  std::vector<ObjectId> ids;
  ids.reserve(objects.size());
  for (const Object* object : objects) ids.push_back(object->id);
  return ids;
}

// `last_refs`: what send_refs_ahead() left of the list of refs inside.
flatbuffers::Offset<wire::fb::Value> build_value(wire::Builder& builder, const Object& object,
                                                 std::span<const ObjectId> last_refs) {
  const auto refs = wire::build_objects(builder, last_refs);
  if (object.value.kind() == wire::ValueKind::kInStore) {
    wire::StoreLocation location{};
    std::memcpy(&location, object.value.payload().data(), sizeof location);
    const wire::fb::StoreLocation where = wire::to_wire(location);
    return wire::fb::CreateValue(builder, 0, &where, refs,
                                 static_cast<wire::fb::Rebuild>(object.rebuild));
  }
  const auto bytes = object.value.bytes();
  const auto copy =
      builder.CreateVector(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return wire::fb::CreateValue(builder, copy, nullptr, refs);
}

}  // namespace

Object* RuntimeImpl::new_object() {
  Object* object = pool_.make();
  object->id = {node_, process_, next_index_++};
  return object;
}

Object* RuntimeImpl::put(PackedValues value) {
  MOBULA_CHECK(value.value_count == 1);
  Locked lock(*this);
  drain_dropped();
  Object* object = new_object();
  size_t offset = 0;
  const auto view = wire::read_value(value.bytes, offset);
  MOBULA_CHECK(view.has_value());
  object->value.assign(view->whole);
  object->inner = std::move(value.refs);
  object->was_put = true;
  object->ready.store(true, std::memory_order_release);
  return object;
}

void RuntimeImpl::drop(Object* object) {
  if (object->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (object->on_drop_list.exchange(true)) return;  // It is there already and will be looked at.
  Object* head = dropped_.load(std::memory_order_relaxed);
  do {
    object->next_dropped = head;
  } while (!dropped_.compare_exchange_weak(head, object, std::memory_order_seq_cst,
                                           std::memory_order_relaxed));
  // If nothing happens here any more, who drains the list must be woken. It looks at the list once
  // more after it has said that it sleeps.
  if (head != nullptr || !reader_asleep_.load() || !reader_asleep_.exchange(false)) return;
  reader_word_.fetch_add(1);
  shm::futex_wake(reader_word_);
}

void RuntimeImpl::drain_dropped() {
  if (!lineage_effects_.empty()) settle_lineage();
  if (dropped_.load(std::memory_order_relaxed) == nullptr) return;
  Object* object = dropped_.exchange(nullptr, std::memory_order_acquire);
  while (object != nullptr) {
    Object* next = object->next_dropped;
    // With a count of zero nobody is left who could drop again. Otherwise the object was found again
    // meanwhile (under our lock): take it off the list, then look once more.
    if (object->count.load() == 0) {
      free_object(*object);
    } else {
      object->on_drop_list.store(false);
      if (object->count.load() == 0 && !object->on_drop_list.exchange(true)) free_object(*object);
    }
    object = next;
  }
  if (!lineage_effects_.empty()) settle_lineage();
}

void RuntimeImpl::release(Object* object) {
  if (object->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (object->on_drop_list.exchange(true)) return;
  free_object(*object);
}

// Frees without recursion: a value may hold refs to values that hold refs, to any depth.
void RuntimeImpl::free_object(Object& object) {
  unreferenced_.push_back(&object);
  if (freeing_) return;
  freeing_ = true;
  objects::UplinkRecords records;
  while (!unreferenced_.empty()) {
    Object* gone = unreferenced_.back();
    unreferenced_.pop_back();
    if (gone->error_unseen.load(std::memory_order_relaxed)) [[unlikely]] {
      gone->error_unseen.store(false);
      if (options_.unhandled->add(*gone)) continue;
    }
    MOBULA_CHECK(gone->waiters == nullptr && gone->dependents.empty());
    const bool traced =
        gone->is_argument || gone->entry_lives || gone->rebuild == objects::Rebuild::kByCreator;
    if (traced && !gone->proxy && hibernate(*gone, records)) continue;
    for (Object* inner : gone->inner) release(inner);
    if (gone->sharing != Sharing::kPrivate && !gone->proxy) known_.erase(gone->id);
    if (gone->calls != nullptr) forget_calls(*gone);
    if (!origins_.empty()) origins_.erase(gone);
    if (gone->in_ref_table) refs_.on_count_zero(gone->id, records);
    free_stored_bytes(*gone);
    pool_.free(gone);
  }
  freeing_ = false;
  if (!records.empty()) send_records(records);
}

// The object's value has come, or its error. Never with an interpreter's lock needed.
void RuntimeImpl::complete(Object& object, std::span<const std::byte> value,
                           std::vector<Object*> inner) {
  if (object.is_ready()) {
    for (Object* ref : inner) release(ref);
    return;
  }
  object.value.assign(value);
  if (wire::is_error(object.value.kind())) [[unlikely]] {
    // A generator's error is its last item; the return that says the same is seldom looked at.
    const bool is_items = object.producer != nullptr && object.producer->stream != nullptr;
    if (options_.unhandled != nullptr && !is_items) {
      object.error_unseen.store(is_worth_telling(object));
    }
  }
  const std::vector<Object*> lost = std::exchange(object.inner, std::move(inner));
  object.ready.store(true, std::memory_order_release);
  for (Object* ref : lost) release(ref);
  tell_waiters(object);
  for (Task* task : object.dependents) {
    if (--task->unresolved == 0) startable_.push_back(task);
  }
  object.dependents.clear();
  object.dependents.shrink_to_fit();
  if (object.sharing == Sharing::kShared) {  // We owe the daemon its value (R9).
    share_inner(object);
    object.entry_lives = !object.proxy && object.rebuild == objects::Rebuild::kByCreator;
    if (object.proxy) complete_original(object);
    const std::vector<ObjectId> ids = ids_of(object.inner);
    const std::span<const ObjectId> last = send_refs_ahead(ids);
    uplink_->send([&](wire::Builder& builder) {
      const auto payload = build_value(builder, object, last);
      const wire::fb::ObjectId id = wire::to_wire(object.id);
      return wire::fb::CreateReady(builder, &id, payload);
    });
    ring_daemon_later();
  }
}

Object* RuntimeImpl::known_object(ObjectId id) {
  Object*& object = known_[id];
  if (object != nullptr) {
    object->dormant = false;
    object->retain();
    return object;
  }
  object = pool_.make();
  object->id = id;
  object->sharing = Sharing::kForeign;
  object->in_ref_table = true;
  return object;
}

// Everything private that the roots drag along gets an entry at the daemon, inner objects first (R2).
void RuntimeImpl::share(std::span<Object* const> roots) {
  std::vector<std::pair<Object*, bool>> stack;  // (object, its contents are done)
  for (Object* root : roots) stack.emplace_back(root, false);
  while (!stack.empty()) {
    auto [object, expanded] = stack.back();
    stack.pop_back();
    if (object->sharing != Sharing::kPrivate) continue;
    if (expanded) {
      share_one(*object);
      continue;
    }
    stack.emplace_back(object, true);
    const bool pending = !object->is_ready() && object->producer != nullptr;
    const std::vector<Object*> contents = pending ? spec_refs_of(*object->producer) : object->inner;
    for (Object* inner : contents) {
      if (inner->sharing == Sharing::kPrivate) stack.emplace_back(inner, false);
    }
  }
}

void RuntimeImpl::share_inner(Object& object) {
  share(object.inner);
  objects::UplinkRecords records;
  refs_.before_send(ids_of(object.inner), records);
  send_records(records);
}

void RuntimeImpl::share_one(Object& object) {
  objects::UplinkRecords before;
  object.note_seen();  // By whoever gets it.
  const Task* producer = object.is_ready() ? nullptr : object.producer;
  const std::vector<Object*> contents =
      producer != nullptr ? spec_refs_of(*producer) : object.inner;
  refs_.before_send(ids_of(contents), before);
  send_records(before);
  give_away_bytes(object);

  const std::vector<ObjectId> ids = ids_of(contents);
  const std::span<const ObjectId> last = send_refs_ahead(ids);
  uplink_->send([&](wire::Builder& builder) {
    flatbuffers::Offset<wire::fb::Value> value = 0;
    flatbuffers::Offset<wire::ObjectIdList> spec_refs = 0;
    flatbuffers::Offset<flatbuffers::Vector<uint8_t>> spec = 0;
    if (object.is_ready()) {
      value = build_value(builder, object, last);
    } else {
      spec_refs = wire::build_objects(builder, last);
      const std::vector<std::byte> task =
          producer != nullptr ? spec_of(*producer) : std::vector<std::byte>{};
      if (!task.empty()) {
        spec = builder.CreateVector(reinterpret_cast<const uint8_t*>(task.data()), task.size());
      }
    }
    const wire::fb::ObjectId id = wire::to_wire(object.id);
    const auto origin = origins_.empty() ? origins_.end() : origins_.find(&object);
    const bool known = origin != origins_.end() && origin->second.site != nullptr;
    const auto site = known ? builder.CreateString(*origin->second.site) : 0;
    const auto entry =
        wire::fb::CreateShare(builder, &id, value, spec_refs, spec, site,
                              known ? static_cast<uint64_t>(origin->second.made.count()) : 0);
    const auto list = builder.CreateVector(&entry, 1);
    return wire::fb::CreateShares(builder, list);
  });
  ring_daemon_later();
  object.sharing = Sharing::kShared;
  object.in_ref_table = true;
  object.entry_lives = object.is_ready() && object.rebuild == objects::Rebuild::kByCreator;
  known_[object.id] = &object;
  objects::UplinkRecords after;
  refs_.on_shared(object.id, after);
  send_records(after);
}

// Refs are about to leave in a frame: private ones are shared, guarded ones claimed.
void RuntimeImpl::prepare_to_send(std::span<Object* const> refs) {
  if (refs.empty()) return;
  share(refs);
  objects::UplinkRecords records;
  refs_.before_send(ids_of(refs), records);
  send_records(records);
}

void RuntimeImpl::request_values(std::span<Object* const> objects) {
  std::vector<ObjectId> ids;
  for (Object* object : objects) {
    if (object->sharing != Sharing::kForeign || object->is_ready() || object->requested) continue;
    object->requested = true;
    ids.push_back(object->id);
  }
  for (size_t at = 0; at < ids.size(); at += wire::kControlListMax) {
    const size_t count = std::min(wire::kControlListMax, ids.size() - at);
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateGetObjects(
          builder, wire::build_objects(builder, std::span(ids).subspan(at, count)));
    });
    ring_daemon_later();
  }
}

// All refs of a list but the last ones, which the record itself has room for. Returns those.
std::span<const ObjectId> RuntimeImpl::send_refs_ahead(std::span<const ObjectId> refs) {
  while (refs.size() > wire::kRefsBesideValueMax) {
    const size_t count = std::min(wire::kControlListMax, refs.size() - wire::kRefsBesideValueMax);
    uplink_->send([&](wire::Builder& builder) {
      return wire::fb::CreateRefsAhead(builder, wire::build_objects(builder, refs.first(count)));
    });
    refs = refs.subspan(count);
  }
  return refs;
}

void RuntimeImpl::send_records(const objects::UplinkRecords& records) {
  for (const objects::UplinkRecord& record : records) {
    if (const auto* claims = std::get_if<objects::ClaimsRecord>(&record)) {
      uplink_->send([&](wire::Builder& builder) {
        return wire::fb::CreateClaims(builder, wire::build_objects(builder, claims->objects));
      });
    } else if (const auto* releases = std::get_if<objects::ReleasesRecord>(&record)) {
      uplink_->send([&](wire::Builder& builder) {
        return wire::fb::CreateReleases(builder, wire::build_objects(builder, releases->objects));
      });
    } else if (const auto* close = std::get_if<objects::CloseRecord>(&record)) {
      uplink_->send([&](wire::Builder& builder) {
        return wire::fb::CreateClose(builder, number(close->callee), number(close->call));
      });
    } else if (const auto* drained = std::get_if<objects::DrainedRecord>(&record)) {
      uplink_->send([&](wire::Builder& builder) {
        std::vector<uint64_t> calls;
        for (const CallId call : drained->open_calls) calls.push_back(number(call));
        return wire::fb::CreateDrained(builder, number(drained->peer), builder.CreateVector(calls));
      });
    }
    ring_daemon_later();
  }
}

std::vector<std::byte> system_error(wire::SystemErrorCode code, std::string_view text) {
  const wire::SystemErrorPayload payload{code, 0};
  const wire::ValueHeader header{
      sizeof payload + text.size(), 0, wire::ValueKind::kSystemError, {}};
  std::vector<std::byte> bytes(sizeof header + sizeof payload + text.size());
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &payload, sizeof payload);
  std::memcpy(bytes.data() + sizeof header + sizeof payload, text.data(), text.size());
  return bytes;
}

}  // namespace mobula::process
