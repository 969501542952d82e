// An HTTP server that misbehaves on purpose: a test's handler gets each request and writes whatever bytes it likes.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace sluice::test {

struct FakeRequest {
  std::string method;
  std::string path;                            // without the query
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

// The connection a request came on. Every call returns false once the peer or the server is gone.
class FakeConnection {
 public:
  FakeConnection(int fd, const std::atomic<bool>& stopping) : fd_(fd), stopping_(stopping) {}
  bool write(const std::string& bytes);
  // A complete answer; the connection stays open for the next request.
  bool answer(int status, const std::string& body, const std::string& headers = {});
  bool begin_chunked(int status = 200);
  bool chunk(const std::string& bytes);
  bool line(const std::string& json) { return chunk(json + "\n"); }
  bool end_chunked();
  void close();  // now, whatever was sent
  void reset();  // with RST
  // Blocks until the peer closes or the server stops. True: the peer closed.
  bool wait_for_peer();
  [[nodiscard]] bool closed() const { return closed_; }

 private:
  int fd_;
  const std::atomic<bool>& stopping_;
  bool closed_ = false;
};

class FakeServer {
 public:
  using Handler = std::function<void(const FakeRequest&, FakeConnection&)>;
  // `handler` runs on a thread per connection.
  explicit FakeServer(Handler handler);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] std::vector<FakeRequest> requests() const;
  [[nodiscard]] int open_connections() const { return open_; }

 private:
  void accept_all();
  void serve(int fd);
  bool read_request(int fd, std::string& buffer, FakeRequest& request) const;

  Handler handler_;
  uint16_t port_ = 0;
  int listener_ = -1;  // after port_, which opening it fills in
  std::atomic<bool> stopping_ = false;
  std::atomic<int> open_ = 0;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// TCP to 127.0.0.1:`target` through here, so that a test can break it.
class FaultProxy {
 public:
  explicit FaultProxy(uint16_t target);
  ~FaultProxy();
  FaultProxy(const FaultProxy&) = delete;
  FaultProxy& operator=(const FaultProxy&) = delete;
  [[nodiscard]] uint16_t port() const { return port_; }
  void freeze(bool frozen) { frozen_ = frozen; }     // connections stay and say nothing; new ones are accepted and hang
  void abandon() { ++abandoned_; }                   // those that are open stay frozen for good; new ones are served
  void refuse(bool refused) { refused_ = refused; }  // new ones are closed at once
  void cut() { ++cuts_; }                            // those that are open are closed
  [[nodiscard]] int open_connections() const { return open_; }

 private:
  void accept_all();
  void pump(int client);

  uint16_t target_;
  uint16_t port_ = 0;
  int listener_ = -1;  // after port_, which opening it fills in
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> frozen_ = false;
  std::atomic<bool> refused_ = false;
  std::atomic<int> cuts_ = 0;
  std::atomic<int> abandoned_ = 0;
  std::atomic<int> open_ = 0;
  std::mutex mutex_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace sluice::test
