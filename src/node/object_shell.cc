#include "node/object_shell.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include "node/log.h"

namespace mobula::node {

namespace {

using wire::fb::UplinkBody;

// A list of refs of one value may be so long.
constexpr size_t kRefsAheadMax = 16'000'000;

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

ObjectShell::ObjectShell(Sessions& sessions, StoreShell& store, NodeId node,
                         std::function<void(ProcessId)> on_buried)
    : sessions_(sessions),
      store_(store),
      directory_(directory_options(node)),
      on_buried_(std::move(on_buried)) {}

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
    case UplinkBody::Ready: {
      const auto* ready = record.body_as_Ready();
      if (ready->object() == nullptr) return fail(ErrorCode::kInvalidArgument, "READY of nothing");
      auto value = read_value(process, *ready->value());
      MOBULA_TRY(value);
      result = directory_.on_ready(process, wire::from_wire(*ready->object()), std::move(*value),
                                   effects);
      break;
    }
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
    MOBULA_TRY(store_.check_location(*read->location));
  }
  return read;
}

Result<void> ObjectShell::on_shares(ProcessId process, const wire::fb::Shares& record,
                                    objects::Effects& effects) {
  for (const wire::fb::Share* share : *record.list()) {
    if (share->object() == nullptr) return fail(ErrorCode::kInvalidArgument, "SHARE of nothing");
    const ObjectId object = wire::from_wire(*share->object());
    if (share->value() == nullptr) {
      MOBULA_TRY(
          directory_.on_share_pending(process, object, whole_list(process, share->spec_refs())));
      continue;
    }
    auto value = read_value(process, *share->value());
    MOBULA_TRY(value);
    MOBULA_TRY(directory_.on_share(process, object, std::move(*value), effects));
  }
  return {};
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
    return wire::fb::CreatePeerDiedDirect(
        builder, number(news.dead), static_cast<uint32_t>(dead.pid), dead.death.status.signal,
        dead.death.status.exit_code, dead.death.cause.c_str(), dead.stderr_tail.c_str());
  });
}

// The daemon cannot run Python tasks by itself, and nobody else has the spec: the object fails with
// the cause of its maker's death.
void ObjectShell::carry_out(const objects::OwedReady& owed) {
  const auto found = obituaries_.find(owed.creator);
  const std::string text =
      found == obituaries_.end()
          ? "The process that was to make this object is gone."
          : fmt::format("The process (pid {}) that was to make this object died before: {}.",
                        found->second.pid, found->second.death.cause);
  objects::Effects effects;
  const auto settled = directory_.settle_estate(
      owed.object, error_value(wire::SystemErrorCode::kOwnerDied, text), effects);
  if (!settled) log_debug(fmt::format("event=estate ignored=\"{}\"", settled.error().message));
  carry_out(effects);
}

void ObjectShell::carry_out(const objects::Buried& buried) {
  obituaries_.erase(buried.process);
  store_.on_buried(buried.process);
  on_buried_(buried.process);
}

void ObjectShell::carry_out(const objects::JobCollected& collected) {
  log_info(fmt::format("job={} event=collected", number(collected.job)));
}

}  // namespace mobula::node
