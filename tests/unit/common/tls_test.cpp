#include "common/tls/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>

namespace sluice::tls {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr hours kYear{24 * 365};
const Clock::time_point kNow = Clock::from_time_t(1'800'000'000);

struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
std::unique_ptr<X509, FreeCertificate> parse(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  std::unique_ptr<X509, FreeCertificate> certificate(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
  BIO_free_all(bio);
  return certificate;
}

class Certificates : public ::testing::Test {
 protected:
  const KeyPair ca_ = make_ca("sluice", kNow, 10 * kYear).value();
  const KeyPair leaf_ = issue(ca_, kAgentName, kNow, kYear).value();
};

TEST_F(Certificates, ALeafChainsToItsCa) {
  EXPECT_TRUE(verifies(leaf_.certificate, ca_.certificate, kNow).value());
}

TEST_F(Certificates, ALeafDoesNotChainToAnotherCaOfTheSameName) {
  const KeyPair other = make_ca("sluice", kNow, 10 * kYear).value();
  EXPECT_FALSE(verifies(leaf_.certificate, other.certificate, kNow).value());
  // While the CA is rotated, both are in the bundle, in any order.
  EXPECT_TRUE(verifies(leaf_.certificate, other.certificate + ca_.certificate, kNow).value());
  EXPECT_TRUE(verifies(leaf_.certificate, ca_.certificate + other.certificate, kNow).value());
}

TEST_F(Certificates, AreGoodFromFiveMinutesBeforeUntilTheirEnd) {
  EXPECT_TRUE(verifies(leaf_.certificate, ca_.certificate, kNow - minutes(5)).value());
  EXPECT_FALSE(verifies(leaf_.certificate, ca_.certificate, kNow - minutes(5) - seconds(1)).value());
  EXPECT_TRUE(verifies(leaf_.certificate, ca_.certificate, kNow + kYear - seconds(1)).value());
  EXPECT_FALSE(verifies(leaf_.certificate, ca_.certificate, kNow + kYear + seconds(1)).value());
}

TEST_F(Certificates, ALeafEndsWithItsCa) {
  const KeyPair brief = make_ca("sluice", kNow, hours(48)).value();
  const auto leaf = issue(brief, kAgentName, kNow, kYear).value();
  EXPECT_EQ(inspect(leaf.certificate)->not_after, kNow + hours(48));
  const auto refused = issue(brief, kAgentName, kNow + hours(48), kYear);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("the CA has expired"));
}

TEST_F(Certificates, ALeafIsNoCa) {
  const auto forged = issue(leaf_, kOperatorName, kNow, kYear);
  ASSERT_TRUE(forged);
  EXPECT_FALSE(verifies(forged->certificate, ca_.certificate + leaf_.certificate, kNow).value());
}

TEST_F(Certificates, SayWhatTheyAreFor) {
  const auto info = inspect(leaf_.certificate);
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(info->subject, "CN=sluice-agent");
  EXPECT_EQ(info->dns_name, "sluice-agent");
  EXPECT_EQ(info->not_before, kNow - minutes(5));
  EXPECT_EQ(info->not_after, kNow + kYear);

  const auto leaf = parse(leaf_.certificate);
  EXPECT_EQ(X509_get_version(leaf.get()), X509_VERSION_3);
  EXPECT_EQ(X509_get_key_usage(leaf.get()), static_cast<uint32_t>(KU_DIGITAL_SIGNATURE));
  EXPECT_EQ(X509_get_extended_key_usage(leaf.get()), static_cast<uint32_t>(XKU_SSL_SERVER | XKU_SSL_CLIENT));
  EXPECT_EQ(X509_check_ca(leaf.get()), 0);
  EXPECT_EQ(X509_check_host(leaf.get(), kAgentName, 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(leaf.get(), kOperatorName, 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_purpose(leaf.get(), X509_PURPOSE_SSL_SERVER, 0), 1);
  EXPECT_EQ(X509_check_purpose(leaf.get(), X509_PURPOSE_SSL_CLIENT, 0), 1);

  const auto ca = parse(ca_.certificate);
  EXPECT_EQ(X509_get_key_usage(ca.get()), static_cast<uint32_t>(KU_KEY_CERT_SIGN));
  EXPECT_EQ(X509_check_ca(ca.get()), 1);
  EXPECT_EQ(X509_get_pathlen(ca.get()), 0);
  EXPECT_EQ(inspect(ca_.certificate)->dns_name, "");
  EXPECT_STREQ(EVP_PKEY_get0_type_name(X509_get0_pubkey(ca.get())), "EC");
}

TEST_F(Certificates, HaveSerialsAndKeysOfTheirOwn) {
  const KeyPair second = issue(ca_, kAgentName, kNow, kYear).value();
  const auto a = parse(leaf_.certificate);
  const auto b = parse(second.certificate);
  EXPECT_NE(ASN1_INTEGER_cmp(X509_get0_serialNumber(a.get()), X509_get0_serialNumber(b.get())), 0);
  EXPECT_NE(leaf_.key, second.key);
}

TEST_F(Certificates, MatchTheirKeyOnly) {
  EXPECT_THAT(leaf_.key, StartsWith("-----BEGIN PRIVATE KEY-----\n"));
  EXPECT_TRUE(matches(leaf_.certificate, leaf_.key).value());
  EXPECT_TRUE(matches(ca_.certificate, ca_.key).value());
  EXPECT_FALSE(matches(leaf_.certificate, ca_.key).value());
}

TEST_F(Certificates, AKeyOfAnotherCaIsRefused) {
  const KeyPair other = make_ca("sluice", kNow, kYear).value();
  const auto refused = issue({ca_.certificate, other.key}, kAgentName, kNow, kYear);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid);
  EXPECT_THAT(refused.error().message(), HasSubstr("not its certificate's"));
}

TEST_F(Certificates, NamesThatCannotBeAreRefused) {
  for (const std::string& name : {std::string(), std::string(65, 'a'), std::string("a b"), std::string("a\n"),
                                  std::string("a\0b", 3), std::string("\xc3\xbc")}) {
    EXPECT_FALSE(issue(ca_, name, kNow, kYear)) << name;
  }
  EXPECT_FALSE(make_ca("", kNow, kYear));
  EXPECT_FALSE(make_ca(std::string(65, 'a'), kNow, kYear));
  // Not OpenSSL's configuration text: this is one name.
  EXPECT_EQ(inspect(issue(ca_, "a,DNS:b", kNow, kYear)->certificate)->dns_name, "a,DNS:b");
}

TEST_F(Certificates, WhatIsNotPemIsRefused) {
  const std::string cut = leaf_.certificate.substr(0, leaf_.certificate.size() / 2);
  for (const std::string& bad : {std::string(), std::string("nonsense"), cut, leaf_.key}) {
    EXPECT_FALSE(inspect(bad));
    EXPECT_FALSE(verifies(bad, ca_.certificate, kNow));
    EXPECT_FALSE(verifies(leaf_.certificate, bad, kNow));
    EXPECT_FALSE(matches(bad, leaf_.key));
    EXPECT_FALSE(issue({bad, ca_.key}, kAgentName, kNow, kYear));
  }
  EXPECT_FALSE(matches(leaf_.certificate, leaf_.certificate));
  // A bundle whose second certificate is broken is not read half.
  EXPECT_FALSE(verifies(leaf_.certificate, ca_.certificate + cut, kNow));
  EXPECT_EQ(inspect("").error().kind, ErrorKind::invalid);
}

}  // namespace
}  // namespace sluice::tls
