#include "operator/certificates/plan.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace sluice::certificates {
namespace {

using std::chrono::hours;

constexpr hours kDay{24};
const Clock::time_point kStart = Clock::from_time_t(1'800'000'000);

Plan plan(const Secrets& secrets, Clock::time_point now) {
  auto made = plan_certificates(secrets, now);
  if (!made) {
    throw std::runtime_error(made.error().message());
  }
  return *made;
}

Secrets after(Secrets secrets, const Plan& plan) {
  secrets.ca = plan.ca.value_or(secrets.ca);
  secrets.operator_leaf = plan.operator_leaf.value_or(secrets.operator_leaf);
  secrets.agent_leaf = plan.agent_leaf.value_or(secrets.agent_leaf);
  return secrets;
}

Secrets fresh(Clock::time_point now = kStart) {
  return after({}, plan({}, now));
}

size_t cas_in(const std::string& bundle) {
  size_t count = 0;
  for (size_t at = bundle.find("-----BEGIN"); at != std::string::npos; at = bundle.find("-----BEGIN", at + 1)) {
    ++count;
  }
  return count;
}

// Whether operator and agent, each with either of the Secrets' states, accept each other.
bool trust_each_other(const Secrets& a, const Secrets& b, Clock::time_point now) {
  const auto accepts = [&](const LeafSecret& who, const LeafSecret& whom) {
    return tls::verifies(whom.certificate, who.bundle, now).value_or(false);
  };
  return accepts(a.operator_leaf, b.agent_leaf) && accepts(b.agent_leaf, a.operator_leaf) &&
         accepts(b.operator_leaf, a.agent_leaf) && accepts(a.agent_leaf, b.operator_leaf);
}

TEST(Certificates, EmptySecretsAreFilled) {
  const auto secrets = fresh();
  EXPECT_TRUE(usable(secrets.operator_leaf, tls::kOperatorName, kStart));
  EXPECT_TRUE(usable(secrets.agent_leaf, tls::kAgentName, kStart));
  EXPECT_EQ(cas_in(secrets.ca.bundle), 1U);
  EXPECT_EQ(secrets.operator_leaf.bundle, secrets.ca.bundle);
  EXPECT_EQ(secrets.agent_leaf.bundle, secrets.ca.bundle);
}

TEST(Certificates, NothingIsWrittenWhileAllIsWell) {
  const auto secrets = fresh();
  for (const auto later : {hours(0), hours(2), 59 * kDay}) {
    EXPECT_TRUE(plan(secrets, kStart + later).empty()) << later.count() << " h later";
  }
}

TEST(Certificates, ALeafIsRenewedAfterTwoThirdsOfItsLife) {
  const auto secrets = fresh();
  const auto now = kStart + 60 * kDay;
  const auto renewal = plan(secrets, now);
  EXPECT_FALSE(renewal.ca);
  ASSERT_TRUE(renewal.operator_leaf);
  ASSERT_TRUE(renewal.agent_leaf);
  EXPECT_TRUE(trust_each_other(secrets, after(secrets, renewal), now));
  EXPECT_TRUE(plan(after(secrets, renewal), now).empty());
}

TEST(Certificates, TheNextLookIsWhenTheFirstLeafIsDue) {
  const auto secrets = fresh();
  const auto next = plan(secrets, kStart).next;
  EXPECT_TRUE(plan(secrets, next - hours(1)).empty());
  EXPECT_FALSE(plan(secrets, next).empty());
}

TEST(Certificates, ADamagedLeafIsMadeAnewAndTheOtherLeftAlone) {
  const auto good = fresh();
  const auto other = fresh();
  const auto expect_only_agent = [&](LeafSecret broken, const char* how) {
    auto secrets = good;
    secrets.agent_leaf = std::move(broken);
    const auto mended = plan(secrets, kStart);
    EXPECT_TRUE(mended.agent_leaf) << how;
    EXPECT_FALSE(mended.ca) << how;
    EXPECT_FALSE(mended.operator_leaf) << how;
    EXPECT_TRUE(usable(after(secrets, mended).agent_leaf, tls::kAgentName, kStart)) << how;
  };
  const auto& leaf = good.agent_leaf;
  expect_only_agent({}, "emptied");
  expect_only_agent({leaf.bundle, "garbage", leaf.key}, "garbled certificate");
  expect_only_agent({leaf.bundle, leaf.certificate, "garbage"}, "garbled key");
  expect_only_agent({leaf.bundle, leaf.certificate, good.operator_leaf.key}, "another's key");
  expect_only_agent(good.operator_leaf, "another's pair");
  expect_only_agent(other.agent_leaf, "of an authority nobody knows");
}

TEST(Certificates, ADamagedBundleIsPutRightWithoutANewPair) {
  auto secrets = fresh();
  const auto good = secrets;
  secrets.agent_leaf.bundle += fresh().ca.bundle;
  const auto mended = plan(secrets, kStart);
  ASSERT_TRUE(mended.agent_leaf);
  EXPECT_EQ(*mended.agent_leaf, good.agent_leaf);
}

TEST(Certificates, ALostCaIsReplacedAndTheOldOneStaysTrusted) {
  const auto before = fresh();
  for (const bool garbled : {false, true}) {
    auto secrets = before;
    secrets.ca = garbled ? CaSecret{.bundle = before.ca.bundle, .key = "garbage"} : CaSecret{};
    const auto now = kStart + kDay;
    const auto first = plan(secrets, now);
    const auto replaced = after(secrets, first);
    ASSERT_TRUE(first.ca);
    EXPECT_EQ(cas_in(replaced.ca.bundle), 2U);
    EXPECT_EQ(replaced.operator_leaf.certificate, before.operator_leaf.certificate) << "leaves wait for the new bundle";
    EXPECT_TRUE(trust_each_other(before, replaced, now));

    // Then leaves of the new CA, and then the old CA goes.
    const auto second = plan(replaced, first.next);
    const auto reissued = after(replaced, second);
    EXPECT_NE(reissued.operator_leaf.certificate, before.operator_leaf.certificate);
    EXPECT_TRUE(trust_each_other(replaced, reissued, first.next));
    EXPECT_EQ(cas_in(reissued.ca.bundle), 2U);
    const auto third = plan(reissued, second.next);
    const auto settled = after(reissued, third);
    EXPECT_EQ(cas_in(settled.ca.bundle), 1U);
    EXPECT_EQ(cas_in(settled.agent_leaf.bundle), 1U);
    EXPECT_TRUE(trust_each_other(reissued, settled, second.next));
    EXPECT_TRUE(plan(settled, second.next).empty());
  }
}

TEST(Certificates, TheCaIsReplacedAfterTwoThirdsOfItsLifeWithoutAnyLossOfTrust) {
  auto secrets = fresh();
  auto now = kStart;
  const auto first_ca = secrets.ca.key;
  const auto end = kStart + kCaValidity;
  bool two_at_once = false;
  while (now < end) {
    const auto next = plan(secrets, now);
    const auto later = after(secrets, next);
    ASSERT_TRUE(trust_each_other(secrets, later, now));
    ASSERT_TRUE(plan(later, now).empty()) << "a second look at the same time changes nothing";
    two_at_once = two_at_once || cas_in(later.ca.bundle) == 2;
    secrets = later;
    ASSERT_GT(next.next, now);
    now = next.next;
  }
  EXPECT_NE(secrets.ca.key, first_ca);
  EXPECT_TRUE(two_at_once);
  EXPECT_EQ(cas_in(secrets.ca.bundle), 1U);
}

TEST(Certificates, ALeafInTheCasPlaceIsNoCa) {
  auto secrets = fresh();
  secrets.ca = {.bundle = secrets.agent_leaf.certificate, .key = secrets.agent_leaf.key};
  const auto mended = plan(secrets, kStart);
  ASSERT_TRUE(mended.ca);
  EXPECT_TRUE(usable(after(secrets, mended).agent_leaf, tls::kAgentName, kStart));
}

TEST(Certificates, TheFlowHashKeyStaysWhateverHappensToTheCa) {
  auto secrets = fresh();
  const auto key = secrets.ca.flow_hash_key;
  ASSERT_TRUE(parse_flow_hash_key(key));
  secrets.ca.key = "garbage";
  EXPECT_EQ(after(secrets, plan(secrets, kStart)).ca.flow_hash_key, key);
  secrets.ca.flow_hash_key = "garbage";
  EXPECT_TRUE(parse_flow_hash_key(after(secrets, plan(secrets, kStart)).ca.flow_hash_key));
}

TEST(Certificates, AFlowHashKeyIsThirtyTwoHexadecimalDigits) {
  EXPECT_EQ(parse_flow_hash_key("00000000000000010000000000000002"), (std::array<uint64_t, 2>{1, 2}));
  for (const char* text : {"", "1", "0000000000000001000000000000000g", "000000000000000100000000000000021"}) {
    EXPECT_EQ(parse_flow_hash_key(text), std::nullopt) << text;
  }
}

TEST(Certificates, EveryChangeHasItsReason) {
  EXPECT_EQ(plan({}, kStart).reasons.size(), 4U);  // CA, flow hash key, two leaves
  EXPECT_TRUE(plan(fresh(), kStart).reasons.empty());
}

}  // namespace
}  // namespace sluice::certificates
