// Node: workers that do not start, and environments that cannot be prepared.

#include <fmt/format.h>

#include <utility>

#include "base/text.h"
#include "node/log.h"
#include "node/node.h"

namespace mobula::node {

namespace {

// The head says what it is about, the tail most often why.
std::string shortened(std::string text) {
  if (text.size() <= wire::kReasonBytesMax) return text;
  return std::string(cut_text(text, wire::kReasonBytesMax / 4)) + "\n...\n" +
         std::string(cut_text_head(text, wire::kReasonBytesMax / 2));
}

}  // namespace

void Node::on_start_failed(const scheduler::StartFailed& failed) {
  const std::string text =
      with_output_of(failed.worker, {failed.job, failed.environment}, failed.text);
  log_error(fmt::format("job={} event=workers_do_not_start failures={} why=\"{}\"",
                        number(failed.job), failed.failures, text));
  const auto job = jobs_.find(failed.job);
  if (job == jobs_.end()) return;
  const bool is_hopeless =
      failed.environment == kJobEnvironment && !job->second.had_workers && !job->second.is_detached;
  if (!is_hopeless) return logs_.tell(job->second.driver, text);
  loop_->post([this, id = failed.job, text] { give_up_job(id, text); });
}

// Its driver would wait for ever.
void Node::give_up_job(JobId id, const std::string& why) {
  const auto job = jobs_.find(id);
  if (job == jobs_.end() || job->second.ending) return;
  const std::string reason = shortened(fmt::format(
      "no worker of this program can be started. Workers run its sys.executable ({}) with its "
      "environment variables and its sys.path.\n{}",
      job->second.setup.python, why));
  sessions_.send(job->second.driver, [&](wire::Builder& builder) {
    return wire::fb::CreateExitDirect(builder, reason.c_str());
  });
  end_job(id, "its workers do not start");
  finish_job(id);
}

std::string Node::with_output_of(ProcessId worker, workers::EnvironmentKey environment,
                                 std::string text) {
  if (const auto found = failed_starts_.extract(worker)) text += "\n" + found.mapped();
  if (const std::string end = workers_.zygote_end(environment.job); !end.empty()) {
    text += "\nThe process that starts workers: " + end;
  }
  const std::string log = workers_.zygote_log_tail(environment);
  if (log.empty()) return text;
  return text + "\nThe last lines of the process that starts workers:\n" + log;
}

// Who waits for it is told; if there is nobody, the driver.
void Node::on_environment_failed(const scheduler::EnvironmentFailed& failed) {
  std::string text = with_output_of(failed.worker, failed.environment, failed.text);
  text = shortened(std::move(text));
  log_error(fmt::format("job={} environment={} event=environment_failed why=\"{}\"",
                        number(failed.environment.job), number(failed.environment.id), text));
  for (const scheduler::DemandId& demand : failed.demands) {
    if (actors_.on_environment_failed(demand.owner, text)) continue;
    sessions_.send(demand.owner, [&](wire::Builder& builder) {
      return wire::fb::CreateEnvironmentFailedDirect(builder, number(demand.shape), text.c_str());
    });
  }
  const auto job = jobs_.find(failed.environment.job);
  if (failed.demands.empty() && job != jobs_.end()) {
    logs_.tell(job->second.driver, "The runtime environment could not be set up: " + text);
  }
}

}  // namespace mobula::node
