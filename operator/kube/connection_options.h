// What a connection to the API server needs besides HTTP: whom to trust, who we are, and noticing a dead peer. On
// OpenSSL's and the socket's own handles, so that it does not depend on the HTTP library.
#pragma once

#include <openssl/types.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "common/result.h"
#include "operator/kube/config.h"

namespace sluice::kube {

// Why the last certificate was not believed: the HTTP library only says that the handshake failed.
class TlsFailure {
 public:
  void set(std::string reason) {
    const std::lock_guard lock(mutex_);
    reason_ = std::move(reason);
  }
  // Empty: none since the last look.
  [[nodiscard]] std::string take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reason_, {});
  }

 private:
  std::mutex mutex_;
  std::string reason_;
};

// Trusts `credentials.ca` alone where it is given (the system's store otherwise), presents the client's certificate,
// asks for TLS 1.2 at least, and notes in `failure` why verification failed. invalid: unusable PEM.
Status configure_tls(SSL_CTX* context, const Credentials& credentials, std::shared_ptr<TlsFailure> failure);

// A peer that is gone without a word is noticed within 30 s, idle or not: keepalive probes after 15 s of silence, and
// data (or a connect) unacknowledged for 30 s ends the connection.
void configure_socket(int fd);

}  // namespace sluice::kube
