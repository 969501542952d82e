#include "common/tls/certificates.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <vector>

namespace sluice::tls {

namespace {

template <auto Release>
struct Releaser {
  template <typename T>
  void operator()(T* object) const {
    Release(object);
  }
};
template <typename T, auto Release>
using Owned = std::unique_ptr<T, Releaser<Release>>;

using Certificate = Owned<X509, X509_free>;
using Key = Owned<EVP_PKEY, EVP_PKEY_free>;
using Bio = Owned<BIO, BIO_free_all>;
using Number = Owned<BIGNUM, BN_free>;
using Names = Owned<GENERAL_NAMES, GENERAL_NAMES_free>;
using Store = Owned<X509_STORE, X509_STORE_free>;
using StoreContext = Owned<X509_STORE_CTX, X509_STORE_CTX_free>;
using Extension = Owned<X509_EXTENSION, X509_EXTENSION_free>;

constexpr std::chrono::minutes kClockDifference{5};
constexpr size_t kMaxName = 64;   // ub-common-name, RFC 5280 appendix A.1
constexpr int kSerialBits = 159;  // positive and at most 20 octets, RFC 5280 section 4.1.2.2

// What OpenSSL says of the newest failure; its queue is left empty, so that no later call is blamed for it.
std::string openssl_reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  std::string text = reason != nullptr ? reason : "unknown reason";
  ERR_clear_error();
  return text;
}

tl::unexpected<Error> internal(const char* operation, const std::string& object) {
  return fail(ErrorKind::internal, operation, object, openssl_reason());
}

Bio reading(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// Never asks a terminal for a pass phrase.
int no_pass_phrase(char* /*buffer*/, int /*size*/, int /*rwflag*/, void* /*user*/) {
  return -1;
}

Result<Certificate> parse_certificate(const std::string& pem) {
  const Bio bio = reading(pem);
  Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, no_pass_phrase, nullptr));
  if (!certificate) return fail(ErrorKind::invalid, "read certificate", "", openssl_reason());
  return certificate;
}

Result<std::vector<Certificate>> parse_bundle(const std::string& pem) {
  const Bio bio = reading(pem);
  std::vector<Certificate> certificates;
  while (Certificate next{PEM_read_bio_X509(bio.get(), nullptr, no_pass_phrase, nullptr)}) {
    certificates.push_back(std::move(next));
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (certificates.empty() || !at_end) return fail(ErrorKind::invalid, "read CA certificates", "", openssl_reason());
  ERR_clear_error();
  return certificates;
}

Result<Key> parse_key(const std::string& pem) {
  const Bio bio = reading(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_pass_phrase, nullptr));
  if (!key) return fail(ErrorKind::invalid, "read private key", "", openssl_reason());
  return key;
}

std::string text_of(const Bio& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<size_t>(size)};
}

Result<KeyPair> to_pem(const Certificate& certificate, const Key& key) {
  const Bio certificate_text(BIO_new(BIO_s_mem()));
  const Bio key_text(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(certificate_text.get(), certificate.get()) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return internal("write certificate", "");
  }
  return KeyPair{text_of(certificate_text), text_of(key_text)};
}

bool add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// As a value, not by OpenSSL's configuration text: a comma in a name would start another entry there.
bool add_dns_name(X509* certificate, const std::string& name) {
  const Names names(sk_GENERAL_NAME_new_null());
  Owned<GENERAL_NAME, GENERAL_NAME_free> entry(GENERAL_NAME_new());
  Owned<ASN1_IA5STRING, ASN1_IA5STRING_free> text(ASN1_IA5STRING_new());
  if (!names || !entry || !text || ASN1_STRING_set(text.get(), name.data(), static_cast<int>(name.size())) != 1) {
    return false;
  }
  GENERAL_NAME_set0_value(entry.get(), GEN_DNS, text.release());
  if (sk_GENERAL_NAME_push(names.get(), entry.get()) == 0) return false;
  (void)entry.release();  // the stack's now
  return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
}

bool set_random_serial(X509* certificate) {
  const Number serial(BN_new());
  return serial != nullptr && BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_validity(X509* certificate, Clock::time_point from, Clock::time_point to) {
  return ASN1_TIME_set(X509_getm_notBefore(certificate), Clock::to_time_t(from)) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate), Clock::to_time_t(to)) != nullptr;
}

bool set_common_name(X509_NAME* subject, const std::string& name) {
  return X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(name.data()), static_cast<int>(name.size()),
                                    -1, 0) == 1;
}

bool usable(const std::string& name) {
  return !name.empty() && name.size() <= kMaxName &&
         std::ranges::all_of(name, [](unsigned char c) { return c > 0x20 && c < 0x7f; });
}

Result<Clock::time_point> time_point(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return internal("read certificate's validity", "");
  return Clock::from_time_t(timegm(&parts));
}

}  // namespace

Result<KeyPair> make_ca(const std::string& common_name, Clock::time_point now, std::chrono::hours validity) {
  constexpr const char* kOperation = "make CA";
  if (common_name.empty() || common_name.size() > kMaxName) {
    return fail(ErrorKind::invalid, kOperation, "\"" + common_name + "\"", "the name must have 1 to 64 bytes");
  }
  const Certificate certificate(X509_new());
  const Key key(EVP_EC_gen("P-256"));
  X509* const raw = certificate.get();
  const bool made =
      raw != nullptr && key != nullptr && X509_set_version(raw, X509_VERSION_3) == 1 && set_random_serial(raw) &&
      set_validity(raw, now - kClockDifference, now + validity) &&
      set_common_name(X509_get_subject_name(raw), common_name) &&
      X509_set_issuer_name(raw, X509_get_subject_name(raw)) == 1 && X509_set_pubkey(raw, key.get()) == 1 &&
      add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
      add_extension(raw, raw, NID_key_usage, "critical,keyCertSign") &&
      add_extension(raw, raw, NID_subject_key_identifier, "hash") && X509_sign(raw, key.get(), EVP_sha256()) > 0;
  if (!made) return internal(kOperation, common_name);
  return to_pem(certificate, key);
}

Result<KeyPair> issue(const KeyPair& ca, const std::string& name, Clock::time_point now, std::chrono::hours validity) {
  constexpr const char* kOperation = "issue certificate";
  const auto refuse = [&](const std::string& reason) { return fail(ErrorKind::invalid, kOperation, name, reason); };
  if (!usable(name)) return refuse("the name must be 1 to 64 printable ASCII characters without spaces");
  auto issuer = parse_certificate(ca.certificate);
  if (!issuer) return refuse("CA: " + issuer.error().message());
  auto issuer_key = parse_key(ca.key);
  if (!issuer_key) return refuse("CA: " + issuer_key.error().message());
  if (X509_check_private_key(issuer->get(), issuer_key->get()) != 1) {
    ERR_clear_error();
    return refuse("the CA's key is not its certificate's");
  }
  const auto ca_end = time_point(X509_get0_notAfter(issuer->get()));
  if (!ca_end) return tl::unexpected(ca_end.error());
  if (*ca_end <= now) return refuse("the CA has expired");

  const Certificate certificate(X509_new());
  const Key key(EVP_EC_gen("P-256"));
  X509* const raw = certificate.get();
  X509* const signer = issuer->get();
  const bool made =
      raw != nullptr && key != nullptr && X509_set_version(raw, X509_VERSION_3) == 1 && set_random_serial(raw) &&
      set_validity(raw, now - kClockDifference, std::min<Clock::time_point>(now + validity, *ca_end)) &&
      set_common_name(X509_get_subject_name(raw), name) &&
      X509_set_issuer_name(raw, X509_get_subject_name(signer)) == 1 && X509_set_pubkey(raw, key.get()) == 1 &&
      add_extension(raw, signer, NID_basic_constraints, "critical,CA:FALSE") &&
      add_extension(raw, signer, NID_key_usage, "critical,digitalSignature") &&
      add_extension(raw, signer, NID_ext_key_usage, "serverAuth,clientAuth") && add_dns_name(raw, name) &&
      add_extension(raw, signer, NID_subject_key_identifier, "hash") &&
      add_extension(raw, signer, NID_authority_key_identifier, "keyid:always") &&
      X509_sign(raw, issuer_key->get(), EVP_sha256()) > 0;
  if (!made) return internal(kOperation, name);
  return to_pem(certificate, key);
}

Result<CertificateInfo> inspect(const std::string& certificate_pem) {
  const auto certificate = parse_certificate(certificate_pem);
  if (!certificate) return tl::unexpected(certificate.error());
  X509* const raw = certificate->get();
  CertificateInfo info;
  const Bio subject(BIO_new(BIO_s_mem()));
  if (X509_NAME_print_ex(subject.get(), X509_get_subject_name(raw), 0, XN_FLAG_RFC2253) < 0) {
    return internal("read certificate's subject", "");
  }
  info.subject = text_of(subject);
  const Names names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(raw, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
    if (type != GEN_DNS) continue;
    const auto* text = static_cast<const ASN1_IA5STRING*>(value);
    info.dns_name.assign(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                         static_cast<size_t>(ASN1_STRING_length(text)));
    break;
  }
  const auto from = time_point(X509_get0_notBefore(raw));
  const auto to = time_point(X509_get0_notAfter(raw));
  if (!from || !to) return tl::unexpected(from ? to.error() : from.error());
  info.not_before = *from;
  info.not_after = *to;
  return info;
}

Result<bool> verifies(const std::string& certificate, const std::string& ca_bundle, Clock::time_point now) {
  const auto leaf = parse_certificate(certificate);
  if (!leaf) return tl::unexpected(leaf.error());
  const auto authorities = parse_bundle(ca_bundle);
  if (!authorities) return tl::unexpected(authorities.error());
  const Store store(X509_STORE_new());
  const StoreContext context(X509_STORE_CTX_new());
  if (!store || !context) return internal("verify certificate", "");
  for (const Certificate& authority : *authorities) {
    if (X509_STORE_add_cert(store.get(), authority.get()) != 1) return internal("verify certificate", "");
  }
  if (X509_STORE_CTX_init(context.get(), store.get(), leaf->get(), nullptr) != 1) {
    return internal("verify certificate", "");
  }
  X509_STORE_CTX_set_time(context.get(), 0, Clock::to_time_t(now));
  const bool good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  return good;
}

Result<bool> matches(const std::string& certificate, const std::string& key) {
  const auto parsed_certificate = parse_certificate(certificate);
  if (!parsed_certificate) return tl::unexpected(parsed_certificate.error());
  const auto parsed_key = parse_key(key);
  if (!parsed_key) return tl::unexpected(parsed_key.error());
  const bool good = X509_check_private_key(parsed_certificate->get(), parsed_key->get()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace sluice::tls
