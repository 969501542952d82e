// A small HTTP server for /metrics, /healthz and /readyz, and for what root asks over a unix socket: GET and HEAD only,
// bounded in connections, header size and time. Boost.Beast stays inside the .cpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/result.h"

namespace sluice::telemetry {

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};
// Called on the server's thread, one at a time; it must not block for long. What it throws becomes a 500.
using HttpHandler = std::function<HttpReply()>;

struct HttpLimits {
  size_t connections = 64;               // one more closes the oldest: slow clients cannot keep a probe out
  size_t header_bytes = 8192;            // more is answered with 431
  std::chrono::milliseconds time{5000};  // for a request to arrive whole, and again for its reply to leave
};

class HttpServer {
 public:
  // Listens on `address`:`port` (port 0: any; `::`: both families, or IPv4 alone where there is no IPv6) and serves
  // `handlers` (by path, without the query) from its own thread until destroyed. One request a connection. Fails:
  // invalid (address), exists (port taken), denied, not_found (no such address here).
  static Result<std::unique_ptr<HttpServer>> start(const std::string& address, uint16_t port,
                                                   std::map<std::string, HttpHandler> handlers, HttpLimits limits = {});
  // The same on a unix socket, for its owner alone (mode 0600): makes its directory where that lacks, and takes the
  // place of a socket that nobody answers at any more. The file goes with the server. Fails: invalid (path too long),
  // exists (somebody answers there), denied.
  static Result<std::unique_ptr<HttpServer>> start_local(const std::string& path,
                                                         std::map<std::string, HttpHandler> handlers,
                                                         HttpLimits limits = {});
  HttpServer() = default;
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  virtual ~HttpServer() = default;
  [[nodiscard]] virtual uint16_t port() const = 0;  // 0: a unix socket
};

}  // namespace sluice::telemetry
