// RuntimeImpl: tasks of dead processes (OWNERSHIP.md R19).
//
// A worker that shares a pending object says how to make it. When it dies, the daemon asks the driver
// of the job to run the task. Its return is a proxy here: the value goes to the daemon, which gives it
// to whoever waits.

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/function_name.h"
#include "process/runtime_impl.h"
#include "wire/frame_reader.h"
#include "wire/task_spec.h"

namespace mobula::process {

namespace {

// Below the largest uplink record, with room for the lists of refs.
constexpr size_t kSpecBytesMax = 64 * 1024;

void append_padded(std::vector<std::byte>& to, const void* from, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(from);
  to.insert(to.end(), bytes, bytes + size);
  to.resize(wire::padded(to.size()));
}

// "name=amount\n" for each, in fixed point.
std::string resources_text(const ResourceSet& resources) {
  std::string text;
  for (const auto& [name, amount] : resources.amounts()) {
    text += name + "=" + std::to_string(amount) + "\n";
  }
  return text;
}

std::optional<ResourceSet> read_resources(std::string_view text) {
  ResourceSet resources;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view line = text.substr(0, end);
    const size_t equals = line.rfind('=');
    if (equals == std::string_view::npos) return std::nullopt;
    ResourceAmount amount = 0;
    const auto read = std::from_chars(line.data() + equals + 1, line.data() + line.size(), amount);
    if (read.ec != std::errc{} || amount < 0 || amount > kAmountMax) return std::nullopt;
    resources.set(line.substr(0, equals), amount);
    text.remove_prefix(end + 1);
  }
  return resources;
}

}  // namespace

std::vector<Object*> spec_refs_of(const Task& task) {
  std::vector<Object*> refs = static_cast<const Function&>(*task.function).refs;
  refs.insert(refs.end(), task.refs.begin(), task.refs.end());
  return refs;
}

// Empty: nobody else is to run it, or it is too large. A driver takes its job along when it ends.
std::vector<std::byte> RuntimeImpl::spec_of(const Task& task) const {
  const auto& function = static_cast<const Function&>(*task.function);
  const bool large = function.pickled.size() + task.arguments.size() > kSpecBytesMax;
  if (options_.is_driver || task.stream || task.calls != nullptr || large) return {};
  const ShapeKey& shape = shapes_.at(task.shape - 1);
  if (shape.environment != RuntimeEnvironment{}) return {};  // The driver runs it in the job's own.
  const std::string resources = resources_text(shape.resources);
  wire::TaskSpecHeader header{};
  header.first_return = task.first_return;
  header.return_count = task.return_count;
  header.retries_left = task.retries_left;
  header.value_count = task.value_count;
  header.keyword_count = task.keyword_count;
  header.name_size = static_cast<uint32_t>(function.full_name.size());
  header.resources_size = static_cast<uint32_t>(resources.size());
  header.function_refs = static_cast<uint32_t>(function.refs.size());
  header.time_limit_ms = task.time_limit_ms;
  header.priority = shape.priority;
  header.bundle_index = shape.bundle.index;
  header.group = shape.bundle.group;
  header.captures = shape.bundle.captures ? 1 : 0;
  header.function_size = function.pickled.size();
  header.arguments_size = task.arguments.size();
  std::vector<std::byte> bytes;
  append_padded(bytes, &header, sizeof header);
  append_padded(bytes, function.full_name.data(), function.full_name.size());
  append_padded(bytes, resources.data(), resources.size());
  append_padded(bytes, function.pickled.data(), function.pickled.size());
  append_padded(bytes, task.arguments.data(), task.arguments.size());
  return bytes;
}

void RuntimeImpl::on_adopt(const wire::fb::Adopt& message) {
  const auto* raw = message.spec();
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(raw->data()),
                                         raw->size());
  for (const ObjectId id : wire::read_objects(message.objects())) {
    Object* proxy = pool_.make();
    proxy->id = id;
    proxy->sharing = Sharing::kShared;
    proxy->proxy = true;
    Task* task = adopt_task(id, bytes);
    if (task != nullptr) {
      give_return(*task, *proxy);
    } else {
      complete(*proxy,
               system_error(wire::SystemErrorCode::kOwnerDied,
                            "The process that was to make this object died, and its task could not "
                            "be understood."),
               {});
    }
    release(proxy);
  }
  settle();
  wake_reader_thread();
}

// 0: there is none.
uint32_t RuntimeImpl::adopted_shape(const wire::TaskSpecView& spec) {
  const auto resources = read_resources(spec.resources);
  if (!resources) return 0;
  const BundleRef bundle{spec.header.group, std::max(spec.header.bundle_index, kAnyBundle),
                         spec.header.captures != 0};
  const Request wanted{*resources, {}, bundle, {}};
  const auto request = std::ranges::find(requests_, wanted);
  Submission submission;
  submission.shape = static_cast<uint32_t>(request - requests_.begin() + 1);
  submission.priority = spec.header.priority;
  if (request == requests_.end()) requests_.push_back(wanted);
  return shape_for(submission);
}

// The task, on its way; the one that makes another return of the same call already, if there is one.
Task* RuntimeImpl::adopt_task(ObjectId object, std::span<const std::byte> bytes) {
  const auto spec = wire::read_task_spec(bytes);
  if (!spec.has_value()) return nullptr;
  const wire::TaskSpecHeader& header = spec->header;
  const uint64_t place = object.index - header.first_return.index;
  if (header.first_return.creator != object.creator || place >= header.return_count) return nullptr;
  if (const auto known = adopted_.find(header.first_return); known != adopted_.end()) {
    return known->second;
  }
  const uint32_t shape = adopted_shape(*spec);
  if (shape == 0) return nullptr;

  std::vector<std::vector<Object*>> refs;  // Of the function, and of the arguments.
  for (const std::span<const std::byte> values : {spec->function, spec->arguments}) {
    std::vector<Object*>& found = refs.emplace_back();
    size_t offset = 0;
    while (offset < values.size()) {
      const auto value = wire::read_value(values, offset);
      if (!value.has_value()) break;
      for (uint32_t i = 0; i < value->header.ref_count; ++i) {
        found.push_back(known_object(value->ref(i)));
      }
    }
  }
  // The daemon's entry holds them until we say Ready, and what we say now is read before.
  std::vector<ObjectId> ids;
  for (const auto& list : refs) {
    for (const Object* ref : list) ids.push_back(ref->id);
  }
  objects::UplinkRecords records;
  refs_.on_task(process_, CallId{~uint64_t{0}}, ids);
  refs_.end_task(process_, CallId{~uint64_t{0}}, records);
  send_records(records);

  auto* task = tasks_.make();
  task->call = CallId{next_call_++};
  task->function = adopted_function(spec->name, spec->function, std::move(refs[0]));
  task->shape = shape;
  task->time_limit_ms = header.time_limit_ms;
  task->arguments.assign(spec->arguments.begin(), spec->arguments.end());
  task->refs = std::move(refs[1]);
  task->value_count = header.value_count;
  task->keyword_count = header.keyword_count;
  // It may have been run before, in part.
  task->retries_left = header.retries_left > 0 ? header.retries_left - 1 : header.retries_left;
  task->first_return = header.first_return;
  task->return_count = header.return_count;
  task->adopted = true;
  for (uint32_t i = 0; i < task->return_count; ++i) {
    Object* result = new_object();
    result->producer = task;
    task->returns.push_back(result);
  }
  link_task(*task);
  adopted_[task->first_return] = task;
  if (task->refs.empty() || resolve_arguments(*task)) startable_.push_back(task);
  return task;
}

Function* RuntimeImpl::adopted_function(std::string_view name, std::span<const std::byte> pickled,
                                        std::vector<Object*> refs) {
  const std::string_view key(reinterpret_cast<const char*>(pickled.data()), pickled.size());
  if (const auto known = adopted_functions_.find(key); known != adopted_functions_.end()) {
    for (Object* ref : refs) release(ref);
    return known->second;
  }
  auto function = std::make_unique<Function>();
  function->number = static_cast<uint32_t>(functions_.size() + 1);
  function->name = shown_name(name);
  function->full_name = name;
  function->pickled.assign(pickled.begin(), pickled.end());
  function->refs = std::move(refs);
  functions_.push_back(std::move(function));
  adopted_functions_.emplace(key, functions_.back().get());
  return functions_.back().get();
}

}  // namespace mobula::process
