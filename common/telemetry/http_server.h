// A small HTTP server for /metrics, /healthz and /readyz: GET and HEAD only, bounded in connections, header size and
// time. Boost.Beast stays inside the .cpp.
#pragma once

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
using HttpHandler = std::function<HttpReply()>;

class HttpServer {
 public:
  // Listens on `address`:`port` (port 0: any) and serves `handlers` (by path) from its own thread until destroyed.
  static Result<std::unique_ptr<HttpServer>> start(const std::string& address, uint16_t port,
                                                   std::map<std::string, HttpHandler> handlers);
  virtual ~HttpServer() = default;
  [[nodiscard]] virtual uint16_t port() const = 0;
};

}  // namespace sluice::telemetry
