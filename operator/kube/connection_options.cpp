#include "operator/kube/connection_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>

namespace sluice::kube {
namespace {

constexpr const char* kOperation = "set up TLS";

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<&BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Deleter<&X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<&EVP_PKEY_free>>;
using Store = std::unique_ptr<X509_STORE, Deleter<&X509_STORE_free>>;

std::string openssl_error() {
  char text[256] = "unknown";
  if (const unsigned long code = ERR_get_error(); code != 0) ERR_error_string_n(code, text, sizeof text);
  ERR_clear_error();
  return text;
}

Bio reader(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// The index under which a context keeps its TlsFailure; the context's end lets go of it.
int failure_index() {
  static const int index =
      SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, [](void*, void* held, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<std::shared_ptr<TlsFailure>*>(held);
      });
  return index;
}

int verify(X509_STORE_CTX* store, void* held) {
  const int verified = X509_verify_cert(store);
  if (verified == 1) return verified;
  const int error = X509_STORE_CTX_get_error(store);
  // The chain is in order and still refused: that was the check of the name.
  static_cast<std::shared_ptr<TlsFailure>*>(held)->get()->set(
      error == X509_V_OK || error == X509_V_ERR_UNSPECIFIED
          ? "the server's certificate is not for the name it was asked by"
          : X509_verify_cert_error_string(error));
  return verified;
}

Status trust(SSL_CTX* context, const std::string& ca) {
  Store store(X509_STORE_new());
  const Bio in = reader(ca);
  int count = 0;
  for (;; ++count) {
    const Certificate certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    if (X509_STORE_add_cert(store.get(), certificate.get()) != 1) {
      return fail(ErrorKind::invalid, kOperation, "certificate authority", openssl_error());
    }
  }
  ERR_clear_error();  // the end of the input counts as one
  if (count == 0) return fail(ErrorKind::invalid, kOperation, "certificate authority", "no PEM certificate in it");
  SSL_CTX_set_cert_store(context, store.release());
  return {};
}

Status identify(SSL_CTX* context, const Credentials& credentials) {
  const Bio in = reader(credentials.client_certificate);
  const Certificate leaf(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  if (!leaf || SSL_CTX_use_certificate(context, leaf.get()) != 1) {
    return fail(ErrorKind::invalid, kOperation, "client certificate", openssl_error());
  }
  for (;;) {
    const Certificate next(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
    if (!next) break;
    SSL_CTX_add1_chain_cert(context, next.get());
  }
  ERR_clear_error();
  const Bio key_in = reader(credentials.client_key);
  const Key key(PEM_read_bio_PrivateKey(key_in.get(), nullptr, nullptr, nullptr));
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return fail(ErrorKind::invalid, kOperation, "client key", openssl_error());
  }
  return {};
}

}  // namespace

Status configure_tls(SSL_CTX* context, const Credentials& credentials, std::shared_ptr<TlsFailure> failure) {
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  if (!credentials.ca.empty()) {
    if (auto done = trust(context, credentials.ca); !done) return done;
  }
  if (!credentials.client_certificate.empty()) {
    if (auto done = identify(context, credentials); !done) return done;
  }
  auto held = std::make_unique<std::shared_ptr<TlsFailure>>(std::move(failure));
  SSL_CTX_set_cert_verify_callback(context, &verify, held.get());
  SSL_CTX_set_ex_data(context, failure_index(), held.release());
  return {};
}

void configure_socket(int fd) {
  const auto set = [fd](int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 15);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
}

}  // namespace sluice::kube
