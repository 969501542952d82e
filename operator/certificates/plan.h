// When the certificates of operator and agents are made and replaced. Pure but for the randomness of new keys.
//
// Three Secrets hold them: the CA with its key; the operator's pair; the agents' pair. All carry the bundle of CAs to
// trust. A leaf is replaced after two thirds of its life. So is the CA, in steps that never leave a peer without trust:
// the new CA joins the bundle; when that has had time to reach every pod, leaves are issued by it; when those have, the
// old one is dropped.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/result.h"
#include "common/tls/certificates.h"

namespace sluice::certificates {

using Clock = tls::Clock;

inline constexpr std::chrono::hours kCaValidity{10 * 365 * 24};
inline constexpr std::chrono::hours kLeafValidity{90 * 24};
// A changed Secret is in every pod's volume by then (a kubelet takes some two minutes), with a wide margin for nodes
// that were away.
inline constexpr std::chrono::hours kDistribution{1};

// A Secret's contents, decoded. Empty strings: the key is not there.
struct CaSecret {
  std::string bundle;  // ca.crt: PEM; the CA that signs comes first, then those that are still trusted
  std::string key;     // ca.key: of the first
  // flow-hash.key: 32 hexadecimal digits. No certificate, but the one other secret of the cluster that must outlive all
  // processes: with another one every flow would be placed anew. Agents have it from the desired state.
  std::string flow_hash_key;
  friend bool operator==(const CaSecret&, const CaSecret&) = default;
};
struct LeafSecret {
  std::string bundle;       // ca.crt
  std::string certificate;  // tls.crt
  std::string key;          // tls.key
  friend bool operator==(const LeafSecret&, const LeafSecret&) = default;
};
struct Secrets {
  CaSecret ca;
  LeafSecret operator_leaf;
  LeafSecret agent_leaf;
  friend bool operator==(const Secrets&, const Secrets&) = default;
};

// What to write; nothing where a Secret is right as it is. The CA's Secret is to be written first, and the leaves only
// after that has succeeded: nobody may hold a certificate of a CA whose key was lost.
struct Plan {
  std::optional<CaSecret> ca;
  std::optional<LeafSecret> operator_leaf;
  std::optional<LeafSecret> agent_leaf;
  std::vector<std::string> reasons;  // one for each change, for people
  Clock::time_point next;            // when time alone asks for the next look
  [[nodiscard]] bool empty() const { return !ca && !operator_leaf && !agent_leaf; }
};

// Contents that are missing or garbled are made anew. Fails where OpenSSL does.
Result<Plan> plan_certificates(const Secrets& current, Clock::time_point now);

// The two words of the flow hash's key; nullopt where `text` is not 32 hexadecimal digits.
std::optional<std::array<uint64_t, 2>> parse_flow_hash_key(const std::string& text);

// True where the pair can be used by `name` at `now`: it parses, belongs together, names `name` and chains to its
// bundle.
bool usable(const LeafSecret& leaf, const std::string& name, Clock::time_point now);

}  // namespace sluice::certificates
