// RuntimeImpl: making items of generators again whose bytes in the store were lost (OWNERSHIP.md R21).
//
// A generator is kept from its first item in the store on. When one is lost, the task runs once more as
// another Task, next to the first one, which may not have ended yet: who takes its items notices
// nothing. Of that run the items that are lost are taken (core/tasks/item_rebuild.h), the others dropped.

#include "process/runtime_impl.h"
#include "wire/frame_reader.h"

namespace mobula::process {

using objects::LossReason;
using objects::Rebuild;

// An item in the store has come. Can it be made again?
Rebuild RuntimeImpl::keep_item(Task& task, Object& item, uint64_t number) {
  const Rebuild possible = rebuild_of(task);
  if (possible != Rebuild::kByCreator) return possible;
  if (!task.kept) remember(task);
  if (!lineage_.add_result(task.lineage_key(), item.id, number, lineage_effects_)) {
    return Rebuild::kEvicted;
  }
  results_kept_[item.id] = &item;
  return Rebuild::kByCreator;
}

// A kept generator has ended, for the first time.
void RuntimeImpl::rest_generator(Task& task) {
  if (task.cancelled) {
    forget_task(task, Rebuild::kCancelled);
  } else if (!task.answered) {
    forget_task(task);  // It could not be run to its end.
  }
  task.stream.reset();
  rest_task(task);
  lineage_.end(task.lineage_key(), lineage_effects_);
}

// An item that is pending again, or the proxy of one.
void RuntimeImpl::want_item(Task& task, Object& object) {
  const uint64_t number = lineage_.number_of(object.id);
  if (!task.rerun) {
    if (task.retries_left == 0) {
      object.rebuild = Rebuild::kNoRetries;
      forget_result(object.id);
      const LossReason reason = LossReason::kNoRetries;
      const std::string text = objects::loss_text(object.id, reason);
      return complete(object, system_error(objects::loss_code(reason), text), {});
    }
    task.rerun = std::make_unique<ItemRerun>();
  }
  Object*& place = task.rerun->objects[number];
  if (place == &object || (place != nullptr && object.proxy && place->proxy)) return;
  if (place != nullptr) {
    place->producer = nullptr;
    release(place);
  }
  place = &object;
  object.retain();
  object.producer = task.rerun->run;
  if (task.rerun->plan.lose(number) != tasks::ItemRebuild::Place::kStartRun) return;
  lineage_.begin(task.lineage_key());
  run_again(task);
}

// To be started by start_reruns().
void RuntimeImpl::run_again(Task& task) {
  if (task.retries_left > 0) --task.retries_left;
  ++task.attempt;
  auto* run = tasks_.make();
  run->call = CallId{next_call_++};
  run->function = task.function;
  run->shape = task.shape;
  run->arguments = task.arguments;
  run->refs = task.refs;  // start_reruns() counts them.
  run->value_count = task.value_count;
  run->keyword_count = task.keyword_count;
  run->time_limit_ms = task.time_limit_ms;
  run->parent = task.parent;
  run->retries_left = task.retries_left;
  run->attempt = task.attempt;
  run->first_return = task.first_return;
  run->return_count = 1;
  run->rebuilding = true;
  run->yields = true;
  run->stream = std::make_shared<Stream>();
  run->stream->task = run;
  run->stream->rerun_of = &task;
  Object* end = new_object();
  end->producer = run;
  run->returns.push_back(end);
  link_task(*run);
  to_rerun_.push_back(run);
  task.rerun->run = run;
  for (const auto& [number, object] : task.rerun->objects) object->producer = run;
}

// With a count: what item `number` is to become. Nobody wants it, unless it is one of those lost.
Object* RuntimeImpl::take_rerun_item(Task& run, uint64_t number, bool is_error) {
  ItemRerun& rerun = *run.rerun_of()->rerun;
  Object* item = nullptr;
  if (rerun.plan.on_item(number)) {
    item = rerun.objects.extract(number).mapped();
    item->producer = nullptr;
    if (kept_task_of(item->id) != nullptr) item->rebuild = rebuild_of(run);
  } else {
    item = new_object();
  }
  if (is_error && rerun.error == nullptr) {
    item->retain();
    rerun.error = item;
  }
  if (rerun.plan.has_all() && !run.stream->abandoned) {
    rerun.plan.close();
    run.stream->abandoned = true;  // The worker need not send the rest.
    tell_consumed(*run.stream);
  }
  return item;
}

// The run is over. `error`: why, if it did not end well.
void RuntimeImpl::end_rerun(Task& run, std::span<const std::byte> error) {
  Task& task = *run.rerun_of();
  ItemRerun& rerun = *task.rerun;
  if (run.retries_left >= 0) task.retries_left = std::min(task.retries_left, run.retries_left);
  task.attempt = std::max(task.attempt, run.attempt);
  const auto fail = [&](const std::vector<uint64_t>& numbers, LossReason reason) {
    for (const uint64_t number : numbers) {
      Object& object = *rerun.objects.extract(number).mapped();
      object.producer = nullptr;
      std::vector<std::byte> told(error.begin(), error.end());
      if (told.empty() && rerun.error != nullptr) {
        const auto bytes = rerun.error->value.bytes();
        told.assign(bytes.begin(), bytes.end());
      }
      if (told.empty()) {
        told = system_error(objects::loss_code(reason), objects::loss_text(object.id, reason));
      }
      size_t offset = 0;
      const Result<wire::ValueView> value = wire::read_value(told, offset);
      std::vector<Object*> inner;
      for (uint32_t r = 0; r < value->header.ref_count; ++r) {
        inner.push_back(known_object(value->ref(r)));
      }
      complete(object, told, std::move(inner));
      forget_result(object.id);
      release(&object);
    }
  };
  tasks::ItemRebuild::Ended ended = rerun.plan.on_end();
  fail(ended.missing, LossReason::kMissing);
  if (rerun.error != nullptr) release(std::exchange(rerun.error, nullptr));
  if (ended.again && (task.retries_left == 0 || !error.empty() || !disconnected_.empty())) {
    ended = rerun.plan.on_end();
    fail(ended.missing, LossReason::kNoRetries);
  }
  if (ended.again) {
    run_again(task);
    return start_reruns();
  }
  task.rerun.reset();
  if (run.cancelled) {
    forget_task(task, Rebuild::kCancelled);
  } else if (task.retries_left == 0 || !error.empty()) {
    forget_task(task);
  }
  lineage_.end(task.lineage_key(), lineage_effects_);
}

}  // namespace mobula::process
