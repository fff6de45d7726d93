#include "python/state.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/function_name.h"
#include "python/results.h"
#include "wire/state_generated.h"

namespace nb = nanobind;

namespace mobula::python {

namespace {

namespace fb = wire::fb;

using python::text;
std::string_view view(const flatbuffers::String* bytes) {
  return bytes != nullptr ? bytes->string_view() : std::string_view();
}

nb::object text(const flatbuffers::String* bytes) { return text(view(bytes)); }

// A task has the name that people see, and that of its function.
void name_task(nb::dict& record, std::string_view name) {
  record["name"] = text(shown_name(name));
  record["function"] = text(own_name(name));
}

nb::dict to_dict(const process::TraceEventOut& event) {
  nb::dict record;
  name_task(record, event.name);
  record["resources"] = text(event.resources);
  record["pid"] = event.pid;
  record["process_id"] = event.process;
  record["job"] = event.job;
  record["caller"] = event.caller;
  record["call"] = event.call;
  record["task"] = event.task;
  record["start_ns"] = event.start_ns;
  record["end_ns"] = event.end_ns;
  record["children_from"] = event.children_from;
  record["children"] = event.children;
  record["group"] = event.group;
  record["attempt"] = event.attempt;
  record["failed"] = event.failed;
  record["is_call"] = event.is_call;
  record["by_owner"] = event.by_owner;
  record["error_type"] = event.error_type;
  record["error"] = text(event.error);
  return record;
}

nb::list to_list(const std::vector<process::TraceEventOut>& events) {
  nb::list list;
  for (const process::TraceEventOut& event : events) list.append(to_dict(event));
  return list;
}

// With what made it: a pair of creator and index, or None.
nb::list with_parents(const process::StateOut& out,
                      const std::vector<process::TraceEventOut>& events) {
  nb::list list;
  for (const process::TraceEventOut& event : events) {
    nb::dict record = to_dict(event);
    const auto [creator, index] = out.parent_of(event.caller, event.task);
    record["parent"] = index != 0 ? nb::object(nb::make_tuple(creator, index)) : nb::none();
    list.append(record);
  }
  return list;
}

nb::object number_pair(const fb::TaskNumber* number) {
  if (number == nullptr || number->index() == 0) return nb::none();
  return nb::make_tuple(number->creator(), number->index());
}

nb::list functions_of(const fb::LiveTasks& live) {
  nb::list list;
  if (live.functions() == nullptr) return list;
  for (const auto* function : *live.functions()) {
    nb::dict record;
    name_task(record, view(function->name()));
    record["waiting"] = function->waiting();
    record["queued"] = function->queued();
    record["sent"] = function->sent();
    record["running"] = function->running();
    record["blocked"] = function->blocked();
    list.append(record);
  }
  return list;
}

nb::list shapes_of(const fb::LiveTasks& live) {
  nb::list list;
  if (live.shapes() == nullptr) return list;
  for (const auto* shape : *live.shapes()) {
    nb::dict resources;
    if (shape->resources() != nullptr) {
      for (const auto* resource : *shape->resources()) {
        resources[text(resource->name())] = resource->amount();
      }
    }
    nb::dict record;
    record["shape"] = shape->shape();
    record["depth"] = shape->depth();
    record["resources"] = resources;
    record["queued"] = shape->queued();
    record["in_flight"] = shape->in_flight();
    record["leases"] = shape->leases();
    record["blocked_leases"] = shape->blocked_leases();
    record["target"] = shape->target();
    record["group"] = shape->group();
    list.append(record);
  }
  return list;
}

nb::list tasks_of(const process::StateOut& out, uint32_t process, const fb::LiveTasks& live) {
  nb::list list;
  if (live.tasks() == nullptr) return list;
  const size_t functions = live.functions() != nullptr ? live.functions()->size() : 0;
  for (const auto* task : *live.tasks()) {
    if (task->function() >= functions) continue;
    nb::list waits_for;
    if (task->waits_for() != nullptr) {
      for (const auto* object : *task->waits_for()) waits_for.append(number_pair(object));
    }
    nb::dict record;
    record["task"] = task->index();
    name_task(record, view(live.functions()->Get(task->function())->name()));
    record["shape"] = task->shape();
    record["phase"] = fb::EnumNameTaskPhase(task->phase());
    record["attempt"] = task->attempt();
    record["retries_left"] = task->retries_left();
    record["worker"] = task->worker();
    record["worker_pid"] = task->worker_pid();
    const auto [creator, index] = out.parent_of(process, task->index());
    record["parent"] = index != 0 ? nb::object(nb::make_tuple(creator, index)) : nb::none();
    record["actor"] = number_pair(task->actor());
    record["missing"] = task->missing();
    record["waits_for"] = waits_for;
    record["streaming"] = task->streaming();
    list.append(record);
  }
  return list;
}

nb::list objects_of(const fb::LiveTasks& live) {
  nb::list list;
  if (live.objects() == nullptr) return list;
  const size_t sites = live.call_sites() != nullptr ? live.call_sites()->size() : 0;
  for (const auto* object : *live.objects()) {
    if (object->object() == nullptr) continue;
    nb::dict record;
    record["object"] = nb::make_tuple(object->object()->creator(), object->object()->index());
    record["size"] = object->size();
    record["place"] = fb::EnumNameObjectPlace(object->place());
    const fb::StoreName* name = object->name();
    record["name"] =
        name != nullptr
            ? nb::object(nb::make_tuple(name->segment(), name->entry(), name->generation()))
            : nb::none();
    record["is_shared"] = object->is_shared();
    record["refs"] = object->refs();
    record["pending_tasks"] = object->pending_tasks();
    record["containers"] = object->containers();
    record["is_viewed"] = object->is_viewed();
    const uint32_t site = object->call_site();
    record["call_site"] =
        site != 0 && site <= sites ? text(live.call_sites()->Get(site - 1)) : text(nullptr);
    record["made_ns"] = object->made_ns();
    record["is_task"] = object->is_task();
    record["phase"] = fb::EnumNameTaskPhase(object->phase());
    record["attempt"] = object->attempt();
    list.append(record);
  }
  return list;
}

nb::dict to_dict(const process::StateOut& out, const process::StateOut::Live& live) {
  nb::dict record;
  record["process"] = live.process;
  record["pid"] = live.pid;
  record["error"] = text(live.error);
  if (live.contents.empty()) return record;
  const auto& contents = *flatbuffers::GetRoot<fb::LiveTasks>(live.contents.data());  // Verified.
  record["functions"] = functions_of(contents);
  record["shapes"] = shapes_of(contents);
  record["tasks"] = tasks_of(out, live.process, contents);
  record["unfinished"] = contents.unfinished();
  record["looked_at"] = contents.looked_at();
  record["objects"] = objects_of(contents);
  record["object_count"] = contents.object_count();
  record["object_bytes"] = contents.object_bytes();
  record["private_bytes"] = contents.private_bytes();
  record["records_call_sites"] = contents.records_call_sites();
  return record;
}

nb::list timeline() {
  const SessionUse use(&session());
  PythonGate gate;
  return to_list(value_of(use.runtime().timeline(gate)));
}

nb::dict state(const nb::dict& options) {
  process::StateRequest request;
  const auto read = [&](const char* name, auto& into) {
    using Value = std::remove_reference_t<decltype(into)>;
    if (options.contains(name)) into = nb::cast<Value>(options[name]);
  };
  read("patience_ms", request.patience_ms);
  read("tasks_max", request.tasks_max);
  read("ended_max", request.ended_max);
  read("name", request.name);
  read("task", request.task);
  read("creator", request.creator);
  read("phases", request.phases);
  read("failed_only", request.failed_only);
  read("finished_only", request.finished_only);
  read("objects_max", request.objects_max);
  const SessionUse use(&session());
  PythonGate gate;
  const process::StateOut out = value_of(use.runtime().state(request, gate));
  nb::list live;
  for (const process::StateOut::Live& process : out.live) live.append(to_dict(out, process));
  nb::list totals;
  for (const process::EndedTotal& total : out.totals) {
    totals.append(nb::make_tuple(text(total.name), total.finished, total.failed));
  }
  nb::dict answer;
  answer["daemon"] = text(out.daemon);
  answer["live"] = live;
  answer["ended"] = with_parents(out, out.ended);
  answer["running"] = with_parents(out, out.running);
  answer["totals"] = totals;
  answer["ended_dropped"] = out.ended_dropped;
  return answer;
}

// ---- the program's own metrics

uint32_t add_metric(uint32_t kind, std::string name, std::string description,
                    std::vector<std::pair<std::string, std::string>> tags,
                    std::vector<double> boundaries) {
  const SessionUse use(&session());
  const auto series =
      use.runtime().metrics().add({static_cast<shm::SeriesKind>(kind), std::move(name),
                                   std::move(description), std::move(tags), std::move(boundaries)});
  if (series) return *series;
  PyErr_SetString(PyExc_MemoryError, "there is no room for more series of metrics");
  throw nb::python_error();
}

}  // namespace

void add_state_functions(nb::module_& module) {
  module.def("timeline", timeline);
  module.def("state", state);
  module.def("metric_add", add_metric);
  // Without checks: mobula.util.metrics made the series, in this session.
  module.def("metric_increase", [](uint32_t series, double by) {
    if (open_session != nullptr) open_session->runtime->metrics().increase(series, by);
  });
  module.def("metric_set", [](uint32_t series, double value) {
    if (open_session != nullptr) open_session->runtime->metrics().set(series, value);
  });
  module.def("metric_observe", [](uint32_t series, double value) {
    if (open_session != nullptr) open_session->runtime->metrics().observe(series, value);
  });
  module.attr("METRIC_COUNTER") = static_cast<uint32_t>(shm::SeriesKind::kCounter);
  module.attr("METRIC_GAUGE") = static_cast<uint32_t>(shm::SeriesKind::kGauge);
  module.attr("METRIC_HISTOGRAM") = static_cast<uint32_t>(shm::SeriesKind::kHistogram);
  module.attr("ERROR_RAISED") = process::kErrorRaised;
  module.attr("ERROR_DEPENDENCY") = process::kErrorDependency;
}

}  // namespace mobula::python
