// HTTP to the API server, as narrow as it can be. cpprestsdk stays behind it, in connector.cpp; everything above
// works with any Transport, which is also where tests put faults.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "common/result.h"
#include "operator/kube/config.h"

namespace sluice::kube {

struct Request {
  std::string method = "GET";
  std::string path;  // with its query, percent-encoded: "/api/v1/nodes?limit=1"
  std::string body;
  std::string content_type = "application/json";
  std::chrono::milliseconds timeout{30'000};       // send: for all of it. stream: for each silence
  std::chrono::milliseconds head_timeout{30'000};  // stream: for the status, and for the body of a refusal
  std::stop_token stop;                            // send: gives the call up, as unavailable
};

struct Response {
  int status = 0;
  std::string body;
  std::optional<std::chrono::seconds> retry_after;  // the header, where it is a number of seconds

  [[nodiscard]] bool ok() const { return status >= 200 && status < 300; }
};

// One long answer, read line by line. The lines that nobody has read yet are bounded (about 1 MiB): beyond that the
// server is made to wait. Destroying it cancels. next() and head() belong to one thread; cancel() may come from any.
class Stream {
 public:
  virtual ~Stream() = default;
  // Waits for the status. Where it is not 2xx the body has been read and is in the Response.
  virtual Result<Response> head() = 0;
  struct Next {
    enum class Kind { line, end, timeout } kind = Kind::end;
    std::string line;  // without its newline; empty lines are skipped
  };
  // The next line; `end` after a body that ended as it should; `timeout` when nothing came by the deadline (the stream
  // goes on). Errors: unavailable (broken, silent for too long, a line over 32 MiB), and canceled as unavailable.
  virtual Result<Next> next(std::chrono::steady_clock::time_point deadline) = 0;
  virtual void cancel() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // One short call; blocks. At most eight run at a time. An answer of any status is a Response; an Error (unavailable)
  // means that there was none. A GET is repeated once when a kept-alive connection breaks; whether another method took
  // effect before the error is unknown. 401 reads the credentials again and repeats the call once.
  virtual Result<Response> send(const Request& request) = 0;
  // Starts a long call on a connection of its own; does not block. Same rule for 401.
  virtual std::unique_ptr<Stream> stream(const Request& request) = 0;
};

// Refused: an IPv6 literal as the server's address (not_supported: give it a name), an unusable URL or CA (invalid).
Result<std::shared_ptr<Transport>> make_transport(const ClusterConfig& config, const std::string& user_agent);

}  // namespace sluice::kube
