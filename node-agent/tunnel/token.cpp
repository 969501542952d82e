#include "node-agent/tunnel/token.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace sluice::agent::tunnel {
namespace {

// What else the cluster may use its keys for one day must not give the same value.
constexpr std::string_view kPurpose = "sluice tunnel 1";

}  // namespace

uint64_t token(const state::TunnelKey& key, const net::IpAddress& source, const net::IpAddress& destination) {
  std::array<unsigned char, 16> secret{};
  for (size_t i = 0; i < secret.size(); ++i) {
    secret.at(i) = static_cast<unsigned char>(key.secret.at(i / 8) >> (56 - 8 * (i % 8)));
  }
  std::array<unsigned char, kPurpose.size() + 1 + 2 * 16> message{};
  auto* at = std::copy(kPurpose.begin(), kPurpose.end(), message.begin());
  *at++ = static_cast<unsigned char>(source.family());
  at = std::copy(source.bytes().begin(), source.bytes().end(), at);
  std::copy(destination.bytes().begin(), destination.bytes().end(), at);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  // Fails only where the library itself is broken: no caller could go on.
  if (HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), message.data(), message.size(), digest.data(),
           nullptr) == nullptr) {
    std::abort();
  }
  uint64_t made = 0;
  std::memcpy(&made, digest.data(), sizeof made);
  return made == 0 ? 1 : made;
}

}  // namespace sluice::agent::tunnel
