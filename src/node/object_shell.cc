#include "node/object_shell.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "base/text.h"
#include "core/objects/loss.h"
#include "node/log.h"
#include "wire/task_spec.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

// A list of refs of one value may be so long.
constexpr size_t kRefsAheadMax = 16'000'000;
constexpr size_t kOriginsSpare = 1024;
constexpr size_t kCallSiteBytesMax = 1024;

objects::ObjectDirectory::Options directory_options(NodeId node) {
  objects::ObjectDirectory::Options options;
  options.node = node;
  return options;
}

// An error of the runtime's own as an object's value (wire/frames.h).
objects::ValuePtr error_value(wire::SystemErrorCode code, const std::string& text) {
  const wire::SystemErrorPayload payload{code, 0};
  const wire::ValueHeader header{
      sizeof payload + text.size(), 0, wire::ValueKind::kSystemError, {}};
  auto value = std::make_shared<objects::ObjectValue>();
  value->inline_bytes.resize(wire::padded(sizeof header + sizeof payload + text.size()));
  std::byte* out = value->inline_bytes.data();
  std::memcpy(out, &header, sizeof header);
  std::memcpy(out + sizeof header, &payload, sizeof payload);
  std::memcpy(out + sizeof header + sizeof payload, text.data(), text.size());
  return value;
}

}  // namespace

ObjectShell::ObjectShell(Sessions& sessions, StoreShell& store, NodeId node, Callbacks callbacks)
    : sessions_(sessions),
      store_(store),
      directory_(directory_options(node)),
      callbacks_(std::move(callbacks)) {}

Result<bool> ObjectShell::on_record(const Session& session, const wire::fb::ToDaemon& record) {
  objects::Effects effects;
  const ProcessId process = session.id;
  Result<void> result;
  switch (record.body_type()) {
    case UplinkBody::Shares:
      result = on_shares(process, *record.body_as_Shares(), effects);
      break;
    case UplinkBody::Claims:
      result = directory_.on_claim(process, wire::read_objects(record.body_as_Claims()->objects()));
      break;
    case UplinkBody::Releases:
      result =
          directory_.on_release(process, wire::read_objects(record.body_as_Releases()->objects()));
      break;
    case UplinkBody::JobHolds:
      result = directory_.on_job_holds(process,
                                       wire::read_objects(record.body_as_JobHolds()->objects()));
      break;
    case UplinkBody::Ready:
      result = on_ready(process, *record.body_as_Ready(), effects);
      break;
    case UplinkBody::Parcel:
      result = on_parcel(process, *record.body_as_Parcel(), effects);
      break;
    case UplinkBody::Close: {
      const auto* close = record.body_as_Close();
      result = directory_.on_close({process, ProcessId{close->callee()}, CallId{close->call()}});
      break;
    }
    case UplinkBody::GetObjects:
      result = directory_.on_get(
          process, wire::read_objects(record.body_as_GetObjects()->objects()), effects);
      break;
    case UplinkBody::FindObject:
      on_find(process, *record.body_as_FindObject());
      break;
    case UplinkBody::Lost:
      result = on_lost(process, *record.body_as_Lost(), effects);
      break;
    case UplinkBody::Revive:
      result = directory_.on_revive(process, wire::read_objects(record.body_as_Revive()->objects()),
                                    effects);
      break;
    case UplinkBody::RefsAhead:
      result = on_refs_ahead(process, *record.body_as_RefsAhead());
      break;
    case UplinkBody::Drained:
      result = on_drained(process, *record.body_as_Drained(), effects);
      break;
    default:
      return false;
  }
  carry_out(effects);
  MOBULA_TRY(result);
  return true;
}

void ObjectShell::on_find(ProcessId process, const wire::fb::FindObject& record) {
  const bool found = directory_.has_value(wire::from_wire(*record.object()));
  sessions_.send(process, [&](wire::Builder& builder) {
    return wire::fb::CreateAnswer(builder, record.request(), 0, 0, 0, 0, 0, true, found);
  });
}

// Only if we find no bytes either: else the value as it is.
Result<void> ObjectShell::on_lost(ProcessId process, const wire::fb::Lost& record,
                                  objects::Effects& effects) {
  const ObjectId object = wire::from_wire(*record.object());
  const wire::StoreLocation location = wire::from_wire(*record.location());
  if (store_.has_bytes(location)) return directory_.on_get(process, {&object, 1}, effects);
  log_warning(fmt::format("process={} event=object_lost creator={} index={} segment={} entry={}",
                          number(process), number(object.creator), object.index,
                          number(location.segment), location.entry));
  return directory_.on_lost(process, object, location, effects);
}

Result<void> ObjectShell::on_refs_ahead(ProcessId process, const wire::fb::RefsAhead& record) {
  std::vector<ObjectId>& ahead = refs_ahead_[process];
  const std::vector<ObjectId> more = wire::read_objects(record.objects());
  if (ahead.size() + more.size() > kRefsAheadMax) {
    return fail(ErrorCode::kInvalidArgument, "a list of refs without an end");
  }
  ahead.insert(ahead.end(), more.begin(), more.end());
  return {};
}

std::vector<ObjectId> ObjectShell::whole_list(ProcessId process, const wire::ObjectIdList* last) {
  std::vector<ObjectId> list = wire::read_objects(last);
  const auto ahead = refs_ahead_.extract(process);
  if (!ahead.empty()) list.insert(list.begin(), ahead.mapped().begin(), ahead.mapped().end());
  return list;
}

Result<objects::ValuePtr> ObjectShell::read_value(ProcessId process, const wire::fb::Value& value) {
  auto read = std::make_shared<objects::ObjectValue>();
  read->refs = whole_list(process, value.refs());
  const auto* bytes = value.inline_();
  if ((bytes != nullptr) == (value.location() != nullptr)) {
    return fail(ErrorCode::kInvalidArgument, "a value is either inline or in the store");
  }
  if (bytes != nullptr) {
    const auto* begin = reinterpret_cast<const std::byte*>(bytes->data());
    read->inline_bytes.assign(begin, begin + bytes->size());
  } else {
    read->location = wire::from_wire(*value.location());
    if (value.rebuild() <= wire::fb::Rebuild::MAX) {
      read->rebuild = static_cast<objects::Rebuild>(value.rebuild());
    }
    MOBULA_TRY(store_.check_location(*read->location));
  }
  return read;
}

Result<void> ObjectShell::on_shares(ProcessId process, const wire::fb::Shares& record,
                                    objects::Effects& effects) {
  for (const wire::fb::Share* share : *record.list()) {
    if (share->object() == nullptr) return fail(ErrorCode::kInvalidArgument, "SHARE of nothing");
    const ObjectId object = wire::from_wire(*share->object());
    if (share->call_site() != nullptr) remember_origin(object, *share);
    if (share->value() == nullptr) {
      objects::SpecPtr spec;
      if (const auto* bytes = share->spec()) {
        const auto* begin = reinterpret_cast<const std::byte*>(bytes->data());
        spec = std::make_shared<std::vector<std::byte>>(begin, begin + bytes->size());
      }
      MOBULA_TRY(directory_.on_share_pending(
          process, object, whole_list(process, share->spec_refs()), std::move(spec)));
      continue;
    }
    auto value = read_value(process, *share->value());
    MOBULA_TRY(value);
    MOBULA_TRY(directory_.on_share(process, object, std::move(*value), effects));
  }
  return {};
}

// Forgotten some time after the object is: only programs that are looked into say this at all.
void ObjectShell::remember_origin(ObjectId object, const wire::fb::Share& share) {
  if (origins_.size() > kOriginsSpare + 2 * directory_.entry_count()) {
    std::erase_if(origins_, [&](const auto& entry) { return !directory_.contains(entry.first); });
  }
  origins_[object] = {std::string(cut_text(share.call_site()->str(), kCallSiteBytesMax)),
                      Instant(static_cast<int64_t>(share.made_ns()))};
}

const ObjectShell::Origin* ObjectShell::origin_of(ObjectId object) const {
  const auto found = origins_.find(object);
  return found == origins_.end() ? nullptr : &found->second;
}

Result<void> ObjectShell::on_ready(ProcessId process, const wire::fb::Ready& record,
                                   objects::Effects& effects) {
  if (record.object() == nullptr) return fail(ErrorCode::kInvalidArgument, "READY of nothing");
  const ObjectId object = wire::from_wire(*record.object());
  auto value = read_value(process, *record.value());
  MOBULA_TRY(value);
  const auto heir = heirs_.find(object);
  if (heir == heirs_.end() || heir->second != process) {
    return directory_.on_ready(process, object, std::move(*value), effects);
  }
  heirs_.erase(heir);
  auto settled = directory_.settle_estate(object, std::move(*value), effects);
  if (settled || settled.error().code == ErrorCode::kNotFound) return {};
  return settled;
}

Result<void> ObjectShell::on_parcel(ProcessId process, const wire::fb::Parcel& record,
                                    objects::Effects& effects) {
  const std::vector<wire::StoreLocation> locations = wire::read_locations(record.locations());
  for (const wire::StoreLocation& location : locations) {
    MOBULA_TRY(store_.check_location(location));
  }
  return directory_.on_parcel({ProcessId{record.caller()}, process, CallId{record.call()}},
                              whole_list(process, record.refs()), locations, effects);
}

Result<void> ObjectShell::on_drained(ProcessId process, const wire::fb::Drained& record,
                                     objects::Effects& effects) {
  std::vector<CallId> open_calls;
  if (record.open_calls() != nullptr) {
    for (const uint64_t call : *record.open_calls()) open_calls.push_back(CallId{call});
  }
  return directory_.on_drained(process, ProcessId{record.peer()}, open_calls, effects);
}

void ObjectShell::complete_pass() {
  objects::Effects effects;
  directory_.complete_pass(effects);
  carry_out(effects);
}

void ObjectShell::on_process_died(ProcessId process, Obituary obituary) {
  obituaries_[process] = std::move(obituary);
  refs_ahead_.erase(process);
  std::erase_if(heirs_, [process](const auto& entry) { return entry.second == process; });
  objects::Effects effects;
  directory_.on_process_died(process, effects);
  carry_out(effects);
}

void ObjectShell::on_job_ended(JobId job, const std::string& reason) {
  objects::Effects effects;
  directory_.on_job_ended(job, error_value(wire::SystemErrorCode::kOwnerDied, reason), effects);
  carry_out(effects);
}

void ObjectShell::carry_out(const objects::Effects& effects) {
  for (const objects::Effect& effect : effects) {
    std::visit([this](const auto& decided) { carry_out(decided); }, effect);
  }
  send_lists();
}

void ObjectShell::send_lists() {
  for (const auto& [process, all] : std::exchange(revived_, {})) {
    std::vector<ObjectId> held;
    std::vector<ObjectId> gone;
    for (const objects::Revived& one : all) (one.held ? held : gone).push_back(one.object);
    sessions_.send(process, [&](wire::Builder& builder) {
      const auto first = wire::build_objects(builder, held);
      return wire::fb::CreateRevived(builder, first, wire::build_objects(builder, gone));
    });
  }
  for (const auto& [creator, all] : std::exchange(unwanted_, {})) {
    for (size_t at = 0; at < all.size(); at += wire::kControlListMax) {
      const auto some =
          std::span(all).subspan(at, std::min(wire::kControlListMax, all.size() - at));
      sessions_.send(creator, [&](wire::Builder& builder) {
        return wire::fb::CreateObjectsDropped(builder, wire::build_objects(builder, some));
      });
    }
  }
}

void ObjectShell::send_refs_ahead(ProcessId to, std::span<const ObjectId> refs) {
  for (size_t at = 0; at < refs.size(); at += wire::kControlListMax) {
    const auto some = refs.subspan(at, std::min(wire::kControlListMax, refs.size() - at));
    sessions_.send(to, [&](wire::Builder& builder) {
      return wire::fb::CreateRefsAhead(builder, wire::build_objects(builder, some));
    });
  }
}

void ObjectShell::carry_out(const objects::DeliverValue& deliver) {
  std::span<const ObjectId> last;
  if (deliver.value) {
    const std::span<const ObjectId> all = deliver.value->refs;
    last = all.last(std::min(all.size(), wire::kRefsBesideValueMax));
    send_refs_ahead(deliver.process, all.first(all.size() - last.size()));
  }
  sessions_.send(deliver.process, [&](wire::Builder& builder) {
    const auto object = wire::to_wire(deliver.object);
    if (!deliver.value) {
      return wire::fb::CreateValueArrivedDirect(builder, &object, 0, deliver.error.c_str());
    }
    const auto refs = wire::build_objects(builder, last);
    flatbuffers::Offset<flatbuffers::Vector<uint8_t>> bytes;
    wire::fb::StoreLocation location;
    const bool in_store = deliver.value->location.has_value();
    if (in_store) {
      location = wire::to_wire(*deliver.value->location);
    } else {
      bytes =
          builder.CreateVector(reinterpret_cast<const uint8_t*>(deliver.value->inline_bytes.data()),
                               deliver.value->inline_bytes.size());
    }
    const auto value = wire::fb::CreateValue(builder, bytes, in_store ? &location : nullptr, refs);
    return wire::fb::CreateValueArrived(builder, &object, value);
  });
}

void ObjectShell::carry_out(const objects::SendPeerDied& news) {
  const auto found = obituaries_.find(news.dead);
  const Obituary unknown;
  const Obituary& dead = found != obituaries_.end() ? found->second : unknown;
  sessions_.send(news.to, [&](wire::Builder& builder) {
    return wire::fb::CreatePeerDiedDirect(builder, number(news.dead),
                                          static_cast<uint32_t>(dead.pid), dead.death.status.signal,
                                          dead.death.status.exit_code, dead.death.cause.c_str(),
                                          dead.stderr_tail.c_str(), dead.death.out_of_memory);
  });
}

// The task goes to the driver of the job, which runs it and says Ready. False: that cannot be.
bool ObjectShell::hand_over(const objects::OwedReady& owed) {
  if (owed.spec == nullptr) return false;
  const auto spec = wire::read_task_spec(*owed.spec);
  if (!spec || spec->header.retries_left == 0) return false;
  const ProcessId heir = callbacks_.heir(owed.job);
  if (heir == kDaemonProcess) return false;
  heirs_[owed.object] = heir;
  log_info(fmt::format("process={} event=adopts creator={} index={} function={}", number(heir),
                       number(owed.creator), owed.object.index, spec->name));
  sessions_.send(heir, [&](wire::Builder& builder) {
    const auto objects = wire::build_objects(builder, std::span(&owed.object, 1));
    const auto bytes = builder.CreateVector(reinterpret_cast<const uint8_t*>(owed.spec->data()),
                                            owed.spec->size());
    return wire::fb::CreateAdopt(builder, objects, bytes);
  });
  return true;
}

// Without a heir, or with no retries left, the object fails with the cause of its maker's death.
void ObjectShell::carry_out(const objects::OwedReady& owed) {
  if (hand_over(owed)) return;
  const auto found = obituaries_.find(owed.creator);
  const std::string text =
      found == obituaries_.end()
          ? "The process that was to make this object is gone."
          : fmt::format("The process (pid {}) that was to make this object died before: {}.",
                        found->second.pid, found->second.death.cause);
  settle(owed.object, wire::SystemErrorCode::kOwnerDied, text);
}

void ObjectShell::carry_out(const objects::AskRebuild& ask) {
  sessions_.send(ask.creator, [&](wire::Builder& builder) {
    const auto object = wire::to_wire(ask.object);
    return wire::fb::CreateRebuildObject(builder, &object);
  });
}

void ObjectShell::carry_out(const objects::LostForGood& lost) {
  const objects::LossReason reason = objects::loss_reason(lost.why);
  settle(lost.object, objects::loss_code(reason), objects::loss_text(lost.object, reason));
}

void ObjectShell::settle(ObjectId object, wire::SystemErrorCode code, const std::string& text) {
  objects::Effects effects;
  const auto settled = directory_.settle_estate(object, error_value(code, text), effects);
  if (!settled) log_debug(fmt::format("event=estate ignored=\"{}\"", settled.error().message));
  carry_out(effects);
}

void ObjectShell::carry_out(const objects::Buried& buried) {
  obituaries_.erase(buried.process);
  store_.on_buried(buried.process);
  callbacks_.on_buried(buried.process);
}

void ObjectShell::carry_out(const objects::JobCollected& collected) {
  log_info(fmt::format("job={} event=collected", number(collected.job)));
}

}  // namespace mobula::node
