#pragma once
// StateQueries answers who asks for the state of everything: which tasks, workers, leases, jobs there
// are, and why something waits.
//
//   asked ──StateWanted to every process──► gathering ──all have answered, or died, or the
//                                                       asker's patience is over──► answered
//
// The daemon tells what it knows itself as JSON, in sections that its parts fill. What processes say of
// their tasks it passes on unread, by descriptor, and so the traces. A process that is stopped delays the
// answer by kFirstLook, one that is slow because the machine is busy by the asker's patience at most;
// they are named in it.
//
// Threads: the loop's.
// Limits:  kGatheringsMax under way.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/loop.h"
#include "node/queries.h"
#include "node/sessions.h"

namespace mobula::node {

constexpr size_t kGatheringsMax = 64;
// When it is looked at first whether those that have not answered are stopped.
constexpr auto kFirstLook = std::chrono::seconds(1);
constexpr auto kNextLooks = std::chrono::milliseconds(200);

class StateQueries {
 public:
  // A JSON value.
  using Section = std::function<std::string()>;

  StateQueries(io::Loop& loop, Sessions& sessions, Queries& queries)
      : loop_(loop), sessions_(sessions), queries_(queries) {}

  void add_section(std::string name, Section section) {
    sections_.emplace_back(std::move(name), std::move(section));
  }
  // Shared objects, if they are asked for: so many of the largest.
  void set_objects(std::function<std::string(size_t)> section) { objects_ = std::move(section); }
  // Queries of all kinds: those that are not for the state of everything are passed to Queries.
  void answer(Session& asker, const wire::fb::Query& query);
  // True if the packet is one of ours.
  bool on_packet(Session& session, const wire::fb::ToDaemon& packet,
                 const std::vector<shm::Fd>& descriptors);
  // It will not answer, nor read answers, any more.
  void forget(ProcessId process);

 private:
  struct Gathering {
    ProcessId asker{};
    uint64_t request = 0;
    std::set<ProcessId> silent;  // Have not answered yet.
    Instant until{};
    std::unique_ptr<io::Timer> next_look;
  };

  void send_own_part(Session& asker, const wire::fb::Query& query);
  void send_text(Session& asker, uint64_t request, const std::string& text, bool last);
  void pass_on(const Gathering& gathering, const Session& from, const wire::fb::LiveState& answer,
               const std::vector<shm::Fd>& descriptors);
  void look_again(uint64_t id, Duration after);
  // Ends it if nobody is left for whom to wait.
  void look(uint64_t id);
  void end(uint64_t id);

  io::Loop& loop_;
  Sessions& sessions_;
  Queries& queries_;
  std::vector<std::pair<std::string, Section>> sections_;
  std::function<std::string(size_t)> objects_;
  uint64_t next_gathering_ = 1;
  std::map<uint64_t, Gathering> gatherings_;
};

}  // namespace mobula::node
