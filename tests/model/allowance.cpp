#include "tests/model/allowance.h"

#include <algorithm>

#include "tests/model/bytes.h"

namespace sluice::model {
namespace {

constexpr double kPrefixRate = 100, kPrefixBurst = 50;  // a second; at once
constexpr double kAllRate = 10'000, kAllBurst = 1000;
constexpr double kTicks = 0.03;       // seconds by which clocks may differ
constexpr size_t kRemembered = 2000;  // prefixes; beyond them the programs may forget, and begin with a full one

}  // namespace

void Allowance::fill(Bucket& bucket, Time now, double rate, double burst) {
  const double seconds = std::chrono::duration<double>(now - bucket.filled).count();
  bucket.filled = now;
  bucket.least = std::min(burst, bucket.least + seconds * rate);
  bucket.most = std::min(burst, bucket.most + seconds * rate);
}

net::IpAddress Allowance::prefix_of(const net::IpAddress& address) {
  auto bytes = address.bytes();
  std::fill(bytes.begin() + (address.is_ipv4() ? 3 : 8), bytes.end(), uint8_t{0});
  return get_address(bytes, 0, !address.is_ipv4());
}

Allowance::Says Allowance::ask(const net::IpAddress& to, Time now) {
  if (!all_) all_ = Bucket{kAllBurst, kAllBurst, now};
  auto [found, fresh] = prefixes_.try_emplace(prefix_of(to), Bucket{kPrefixBurst, kPrefixBurst, now});
  fill(*all_, now, kAllRate, kAllBurst);
  fill(found->second, now, kPrefixRate, kPrefixBurst);
  if (found->second.least >= 1 + kTicks * kPrefixRate && all_->least >= 1 + kTicks * kAllRate) return Says::yes;
  const bool none = found->second.most + kTicks * kPrefixRate < 1 && prefixes_.size() < kRemembered;
  return none ? Says::no : Says::either;
}

void Allowance::note(const net::IpAddress& to, bool answered) {
  Bucket& own = prefixes_.at(prefix_of(to));
  for (Bucket* bucket : {&own, &*all_}) {
    bucket->least = std::max(0.0, bucket->least - 1);
    if (answered) bucket->most = std::max(0.0, bucket->most - 1);
  }
}

}  // namespace sluice::model
