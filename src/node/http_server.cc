#include "node/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include "node/log.h"

namespace mobula::node {

namespace http = boost::beast::http;

struct HttpServer::Connection {
  shm::Fd socket;
  std::string incoming;
  http::request_parser<http::empty_body> parser;
  bool answered = false;
  std::string outgoing;
  std::unique_ptr<io::Timer> deadline;
  std::unique_ptr<io::Watch> watch;
};

namespace {

Result<shm::Fd> listen_on(int port) {
  shm::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int yes = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (!socket.valid() ||
      ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0 ||
      ::listen(socket.get(), static_cast<int>(kConnectionsMax)) < 0) {
    return fail(ErrorCode::kUnavailable,
                "cannot listen on 127.0.0.1:" + std::to_string(port) + ": " + std::strerror(errno));
  }
  return socket;
}

int port_of(const shm::Fd& socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) < 0) return 0;
  return ntohs(address.sin_port);
}

// "localhost:8080", "127.0.0.1"
bool is_this_machine(std::string_view host) {
  const std::string_view name = host.substr(0, host.rfind(':'));
  return name == "127.0.0.1" || name == "localhost" || host == "[::1]" || name == "[::1]";
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::open(io::Loop& loop, int port, std::string path,
                                                     Page page) {
  auto socket = listen_on(port);
  MOBULA_TRY(socket);
  std::unique_ptr<HttpServer> server(new HttpServer(loop, std::move(path), std::move(page)));
  server->listener_ = std::move(*socket);
  server->port_ = port_of(server->listener_);
  auto watch = loop.watch(server->listener_.get(), [raw = server.get()] { raw->on_connection(); });
  MOBULA_TRY(watch);
  server->watch_ = std::move(*watch);
  return server;
}

HttpServer::HttpServer(io::Loop& loop, std::string path, Page page)
    : loop_(loop), path_(std::move(path)), page_(std::move(page)) {}

HttpServer::~HttpServer() { *alive_ = false; }

void HttpServer::on_connection() {
  shm::Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket.valid()) return;
  if (connections_.size() >= kConnectionsMax) return;  // It is closed: ask again later.
  const uint64_t id = next_++;
  auto connection = std::make_unique<Connection>();
  connection->parser.header_limit(kRequestBytesMax);
  connection->parser.body_limit(0);
  auto watch = loop_.watch(socket.get(), [this, id] { on_readable(id); });
  if (!watch) return;
  connection->socket = std::move(socket);
  connection->watch = std::move(*watch);
  connection->deadline = loop_.at(monotonic_now() + kConnectionTime, [this, id] { close(id); });
  connections_[id] = std::move(connection);
}

// Not from within the connection's own callbacks.
void HttpServer::close(uint64_t id) {
  loop_.post([this, alive = alive_, id] {
    if (*alive) connections_.erase(id);
  });
}

void HttpServer::on_readable(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  char bytes[4096];
  const ssize_t size = ::recv(connection.socket.get(), bytes, sizeof bytes, 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (size <= 0) {
    // Who asked has gone, or has only shut down its sending side.
    if (size < 0 || connection.answered) connection.watch.reset();
    if (size < 0 || !connection.answered) close(id);
    return;
  }
  if (connection.answered) return;  // What follows the first request is not listened to.
  connection.incoming.append(bytes, static_cast<size_t>(size));
  boost::system::error_code error;
  const size_t used = connection.parser.put(boost::asio::buffer(connection.incoming), error);
  connection.incoming.erase(0, used);
  if (error == http::error::need_more && connection.incoming.size() <= kRequestBytesMax) return;
  if (error && error != http::error::need_more) return answer(id, 400, "not an HTTP request\n");
  if (connection.parser.is_done()) handle(id, connection);
}

void HttpServer::handle(uint64_t id, Connection& connection) {
  const auto& request = connection.parser.get();
  const auto host = request[http::field::host];
  if (request.version() >= 11 && !is_this_machine({host.data(), host.size()})) {
    return answer(id, 403, "this is for programs on the same machine\n");
  }
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    return answer(id, 405, "only GET is answered\n");
  }
  const std::string_view target(request.target().data(), request.target().size());
  if (target.substr(0, target.find('?')) != path_) {
    return answer(id, 404, "there is only " + path_ + "\n");
  }
  connection.answered = true;
  page_([this, alive = alive_, id](const std::string& body) {
    if (*alive) answer(id, 200, body);
  });
}

void HttpServer::answer(uint64_t id, int status, const std::string& body) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  connection.answered = true;
  http::response<http::string_body> response(static_cast<http::status>(status), 11);
  response.set(http::field::content_type, status == 200 ? "text/plain; version=0.0.4; charset=utf-8"
                                                        : "text/plain; charset=utf-8");
  response.set(http::field::connection, "close");
  response.set(http::field::cache_control, "no-store");
  response.content_length(body.size());
  const bool whole = connection.parser.get().method() != http::verb::head;
  std::ostringstream text;
  text << response.base();
  connection.outgoing = text.str() + (whole ? body : "");
  write(id);
}

void HttpServer::write(uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  while (!connection.outgoing.empty()) {
    const ssize_t sent = ::send(connection.socket.get(), connection.outgoing.data(),
                                connection.outgoing.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN && connection.watch) {
      connection.watch->when_writable([this, id] { write(id); });
      return;
    }
    if (sent < 0) return close(id);
    connection.outgoing.erase(0, static_cast<size_t>(sent));
  }
  ::shutdown(connection.socket.get(), SHUT_WR);
  close(id);
}

}  // namespace mobula::node
