// X.509 for operator and agents: an own CA, ECDSA P-256. OpenSSL stays inside the .cpp. PEM in and out.
#pragma once

#include <chrono>
#include <string>

#include "common/result.h"

namespace sluice::tls {

inline constexpr const char* kOperatorName = "sluice-operator";  // DNS SAN the agent requires of its peer
inline constexpr const char* kAgentName = "sluice-agent";        // DNS SAN the operator requires of its peer

struct KeyPair {
  std::string certificate;  // PEM
  std::string key;          // PEM, PKCS#8; secret
};

using Clock = std::chrono::system_clock;

// A self-signed CA: basicConstraints CA with path length 0, keyCertSign only. Valid from five minutes before `now`
// (clocks differ). `common_name`: 1..64 bytes.
Result<KeyPair> make_ca(const std::string& common_name, Clock::time_point now, std::chrono::hours validity);

// A leaf signed by `ca`: DNS SAN `name` (1..64 bytes), clientAuth and serverAuth. Valid from five minutes before `now`,
// and not longer than the CA. Fails (invalid) where the CA's key is not its certificate's, or the CA has expired.
Result<KeyPair> issue(const KeyPair& ca, const std::string& name, Clock::time_point now, std::chrono::hours validity);

struct CertificateInfo {
  std::string subject;   // RFC 2253: "CN=sluice-agent"
  std::string dns_name;  // first DNS SAN; empty: none
  Clock::time_point not_before;
  Clock::time_point not_after;
};
// Of the first certificate in the PEM.
Result<CertificateInfo> inspect(const std::string& certificate_pem);

// True where `certificate` (first of the PEM) chains to one of the CAs in `ca_bundle` at `now`. Says nothing of its
// name. Fails (invalid) where either is not PEM.
Result<bool> verifies(const std::string& certificate, const std::string& ca_bundle, Clock::time_point now);

// True where a certificate's key is this key. Fails (invalid) where either is not PEM.
Result<bool> matches(const std::string& certificate, const std::string& key);

}  // namespace sluice::tls
