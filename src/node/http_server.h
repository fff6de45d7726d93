#pragma once
// HttpServer answers GET requests for one page on a port of the loopback interface: what Prometheus, or
// a browser on this machine, asks for.
//
//   connection:  reading ──whole request──► answering (the page may come later) ──written──► closed
//
// Only requests that name this machine as their host are answered, so that no web page elsewhere can
// have a browser read it.
//
// Threads: the loop's.
// Limits:  kConnectionsMax at a time, kRequestBytesMax a request, kConnectionTime each.

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "io/loop.h"
#include "shm/memory.h"

namespace mobula::node {

constexpr size_t kConnectionsMax = 32;
constexpr size_t kRequestBytesMax = 8 * 1024;
constexpr auto kConnectionTime = std::chrono::seconds(10);

class HttpServer {
 public:
  using Answer = std::function<void(std::string body)>;
  // Must call `answer` once, now or later, from the loop.
  using Page = std::function<void(Answer answer)>;

  // `port` 0: one that is free. kUnavailable: it cannot be listened on.
  static Result<std::unique_ptr<HttpServer>> open(io::Loop& loop, int port, std::string path,
                                                  Page page);
  ~HttpServer();

  int port() const { return port_; }

 private:
  struct Connection;

  HttpServer(io::Loop& loop, std::string path, Page page);
  void on_connection();
  void on_readable(uint64_t id);
  void handle(uint64_t id, Connection& connection);
  void answer(uint64_t id, int status, const std::string& body);
  void write(uint64_t id);
  void close(uint64_t id);

  io::Loop& loop_;
  const std::string path_;
  const Page page_;
  int port_ = 0;
  shm::Fd listener_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  // Tells answers that come late whether this object still exists.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<io::Watch> watch_;
};

}  // namespace mobula::node
