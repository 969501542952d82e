#include "operator/certificates/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <random>
#include <string_view>
#include <utility>

namespace sluice::certificates {

namespace {

constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----";
constexpr std::string_view kEnd = "-----END CERTIFICATE-----";

// Each certificate of a bundle that parses, in order, in one form (no text around it, one newline at the end).
std::vector<std::string> split(const std::string& bundle) {
  std::vector<std::string> certificates;
  size_t at = 0;
  while ((at = bundle.find(kBegin, at)) != std::string::npos) {
    const size_t end = bundle.find(kEnd, at);
    if (end == std::string::npos) {
      break;
    }
    std::string certificate = bundle.substr(at, end + kEnd.size() - at) + "\n";
    if (tls::inspect(certificate)) {
      certificates.push_back(std::move(certificate));
    }
    at = end + kEnd.size();
  }
  return certificates;
}

Clock::time_point two_thirds(const tls::CertificateInfo& info) {
  return info.not_before + (info.not_after - info.not_before) / 3 * 2;
}

struct Ca {
  tls::KeyPair pair;
  tls::CertificateInfo info;
};

std::optional<Ca> signing_ca(const CaSecret& secret, Clock::time_point now) {
  const auto certificates = split(secret.bundle);
  if (certificates.empty()) {
    return std::nullopt;
  }
  const auto& certificate = certificates.front();
  // Self-signed, so that a leaf that was put here by hand does not pass.
  if (!tls::matches(certificate, secret.key).value_or(false) ||
      !tls::verifies(certificate, certificate, now).value_or(false)) {
    return std::nullopt;
  }
  return Ca{.pair = {.certificate = certificate, .key = secret.key}, .info = *tls::inspect(certificate)};
}

// The CAs of these bundles that are still valid.
std::vector<std::string> valid_cas(const std::vector<std::string>& bundles, Clock::time_point now) {
  std::vector<std::string> all;
  for (const auto& bundle : bundles) {
    for (auto& certificate : split(bundle)) {
      const bool new_here = std::ranges::find(all, certificate) == all.end();
      if (new_here && tls::verifies(certificate, certificate, now).value_or(false)) {
        all.push_back(std::move(certificate));
      }
    }
  }
  return all;
}

bool issued_by(const LeafSecret& leaf, const std::string& ca, Clock::time_point now) {
  return tls::verifies(leaf.certificate, ca, now).value_or(false);
}

// When the leaf is of `ca` and has been for long enough to be in every pod.
bool settled(const LeafSecret& leaf, const std::string& ca, Clock::time_point now) {
  const auto info = tls::inspect(leaf.certificate);
  return info && issued_by(leaf, ca, now) && info->not_before + kDistribution <= now;
}

std::string make_flow_hash_key() {
  constexpr int kWords = 4;
  std::random_device source;
  std::string text;
  for (int i = 0; i < kWords; ++i) {
    text += fmt::format("{:08x}", static_cast<uint32_t>(source()));
  }
  return text;
}

struct LeafChange {
  std::optional<LeafSecret> secret;
  std::string reason;
  Clock::time_point next;
};

Result<LeafChange> plan_leaf(LeafSecret leaf, const std::string& name, const Ca& ca, const std::string& bundle,
                             Clock::time_point now) {
  const bool moved = leaf.bundle != bundle;
  leaf.bundle = bundle;
  LeafChange change;
  if (!usable(leaf, name, now)) {
    change.reason = leaf.certificate.empty() ? "no certificate yet" : "not usable";
  } else if (const auto info = *tls::inspect(leaf.certificate); two_thirds(info) <= now) {
    change.reason = "two thirds of its life have passed";
  } else if (!issued_by(leaf, ca.pair.certificate, now)) {
    if (ca.info.not_before + kDistribution <= now) {
      change.reason = "issued by the former CA";
    } else {
      change.next = ca.info.not_before + kDistribution;
    }
  } else {
    change.next = two_thirds(info);
  }
  if (!change.reason.empty()) {
    auto pair = tls::issue(ca.pair, name, now, kLeafValidity);
    if (!pair) {
      return tl::unexpected(pair.error());
    }
    change.secret = LeafSecret{.bundle = bundle, .certificate = pair->certificate, .key = pair->key};
    change.next = two_thirds(*tls::inspect(pair->certificate));
    change.reason = name + ": new certificate: " + change.reason;
  } else if (moved) {
    change.secret = leaf;
    change.reason = name + ": the bundle of CAs changed";
  }
  return change;
}

}  // namespace

std::optional<std::array<uint64_t, 2>> parse_flow_hash_key(const std::string& text) {
  constexpr size_t kDigits = 16;
  constexpr int kHexadecimal = 16;
  std::array<uint64_t, 2> words{};
  if (text.size() != words.size() * kDigits) {
    return std::nullopt;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    const char* begin = text.data() + i * kDigits;
    const auto parsed = std::from_chars(begin, begin + kDigits, words[i], kHexadecimal);
    if (parsed.ec != std::errc{} || parsed.ptr != begin + kDigits) {
      return std::nullopt;
    }
  }
  return words;
}

bool usable(const LeafSecret& leaf, const std::string& name, Clock::time_point now) {
  const auto info = tls::inspect(leaf.certificate);
  return info && info->dns_name == name && tls::matches(leaf.certificate, leaf.key).value_or(false) &&
         tls::verifies(leaf.certificate, leaf.bundle, now).value_or(false);
}

Result<Plan> plan_certificates(const Secrets& current, Clock::time_point now) {
  Plan plan;
  auto ca = signing_ca(current.ca, now);
  // Where the CA's Secret was lost, those of the leaves still say whom everybody trusts at this moment.
  std::vector<std::string> bundle =
      ca ? valid_cas({current.ca.bundle}, now)
         : valid_cas({current.ca.bundle, current.operator_leaf.bundle, current.agent_leaf.bundle}, now);
  if (!ca || two_thirds(ca->info) <= now) {
    plan.reasons.emplace_back(ca                         ? "new CA: two thirds of the old one's life have passed"
                              : current.ca == CaSecret{} ? "new CA: none yet"
                                                         : "new CA: the Secret's contents are not usable");
    auto pair = tls::make_ca("sluice-ca", now, kCaValidity);
    if (!pair) {
      return tl::unexpected(pair.error());
    }
    const auto certificates = split(pair->certificate);
    auto info = tls::inspect(pair->certificate);
    if (!info || certificates.empty()) {
      return fail(ErrorKind::internal, "make", "CA", "the new certificate does not parse");
    }
    ca = Ca{.pair = {.certificate = certificates.front(), .key = pair->key}, .info = *info};
  }
  std::erase(bundle, ca->pair.certificate);
  const bool old_ones_in_use = !settled(current.operator_leaf, ca->pair.certificate, now) ||
                               !settled(current.agent_leaf, ca->pair.certificate, now);
  std::string bundle_text = ca->pair.certificate;
  if (old_ones_in_use) {
    for (const auto& old : bundle) {
      bundle_text += old;
    }
  }
  CaSecret wanted{.bundle = bundle_text, .key = ca->pair.key, .flow_hash_key = current.ca.flow_hash_key};
  if (!parse_flow_hash_key(wanted.flow_hash_key)) {
    wanted.flow_hash_key = make_flow_hash_key();
    plan.reasons.emplace_back("new flow hash key");
  }
  if (wanted != current.ca) {
    if (plan.reasons.empty()) {
      plan.reasons.emplace_back("the bundle of CAs changed");
    }
    plan.ca = wanted;
  }

  plan.next = two_thirds(ca->info);
  const auto take = [&](const LeafSecret& leaf, const char* name, std::optional<LeafSecret>& into) -> Status {
    auto change = plan_leaf(leaf, name, *ca, bundle_text, now);
    if (!change) {
      return tl::unexpected(change.error());
    }
    into = std::move(change->secret);
    if (!change->reason.empty()) {
      plan.reasons.push_back(std::move(change->reason));
    }
    plan.next = std::min(plan.next, change->next);
    return {};
  };
  if (auto taken = take(current.operator_leaf, tls::kOperatorName, plan.operator_leaf); !taken) {
    return tl::unexpected(taken.error());
  }
  if (auto taken = take(current.agent_leaf, tls::kAgentName, plan.agent_leaf); !taken) {
    return tl::unexpected(taken.error());
  }
  if (old_ones_in_use && !bundle.empty()) {
    plan.next = std::min<Clock::time_point>(plan.next, now + kDistribution);
  }
  return plan;
}

}  // namespace sluice::certificates
