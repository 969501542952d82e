// Connections to the API server, and requests on them. For .cpp files of this room; cpprestsdk stays in connector.cpp.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "common/result.h"
#include "operator/kube/config.h"
#include "operator/kube/connection_options.h"
#include "operator/kube/exchange.h"
#include "operator/kube/transport.h"

namespace web::http::client {
class http_client;
}

namespace sluice::kube {

// Thread-safe.
class Connector {
 public:
  using Client = web::http::client::http_client;  // a pool of connections

  // Refuses what make_transport() refuses.
  static Result<std::shared_ptr<Connector>> create(const ClusterConfig& config, const std::string& user_agent);

  // Before each request: what may block happens here.
  std::shared_ptr<const Credentials> credentials();
  // The server did not accept them.
  void invalidate() { source_->invalidate(); }

  // Its connections end when nothing was received for as long as `silence`.
  std::shared_ptr<Client> client(const std::shared_ptr<const Credentials>& credentials,
                                 std::chrono::milliseconds silence);
  // Does not block. What goes wrong is told by the exchange. `limit`: bytes of the answer that may wait to be taken.
  std::shared_ptr<Exchange> begin(Client& client, const Credentials& credentials, const Request& request,
                                  std::size_t limit);

  // A name may lead elsewhere by now.
  void connection_failed();

 private:
  Connector(ClusterConfig config, std::shared_ptr<CredentialSource> source, std::string user_agent);

  const ClusterConfig config_;
  const std::shared_ptr<CredentialSource> source_;
  const std::string user_agent_;
  const std::string host_;
  const bool secure_;
  // Callbacks run on the library's thread and may outlive the Connector: they share it.
  const std::shared_ptr<TlsFailure> tls_;
  std::atomic<int> family_;  // which the host's name leads to first; AF_UNSPEC: not known
};

// The server cannot have acted on the request that ended with this: it could not be written to its end.
bool never_sent(const Error& error);

}  // namespace sluice::kube
