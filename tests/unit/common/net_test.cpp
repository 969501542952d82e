#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <string>
#include <unordered_set>

#include "common/net/address.h"

namespace sluice::net {
namespace {

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}
AddressRange range(const std::string& text) {
  return AddressRange::parse(text).value();
}

TEST(IpAddress, CanonicalTextComesBackAsItWas) {
  for (const char* text : {"0.0.0.0", "192.0.2.10", "255.255.255.255", "::", "::1", "2001:db8::1", "fe80::1",
                           "2001:db8:0:1:1:1:1:1", "2001:db8::1:0:0:1"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << address.error().message();
    EXPECT_EQ(address->to_string(), text);
  }
}

TEST(IpAddress, WhatIsNotCanonicalIsRefused) {
  for (const std::string text : {"",
                                 " ",
                                 "1",
                                 "1.2.3",
                                 "1.2.3.4.5",
                                 "01.2.3.4",
                                 "1.2.3.04",
                                 "256.1.1.1",
                                 "1.2.3.4 ",
                                 "0x1.2.3.4",
                                 "1.2.3.-4",
                                 "[::1]",
                                 "::1%lo",
                                 "fe80::1%eth0",
                                 "2001:DB8::1",
                                 "2001:0db8::1",
                                 "2001:db8:0:0:0:0:0:1",
                                 "::ffff:192.0.2.1",
                                 "::ffff:c000:201",
                                 ":::",
                                 "1::2::3",
                                 "example.com"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind, ErrorKind::invalid);
    EXPECT_NE(address.error().message().find(text), std::string::npos);
  }
  EXPECT_FALSE(IpAddress::parse(std::string_view("1.2.3.4\0x", 9)));
  EXPECT_NE(IpAddress::parse("2001:DB8::1").error().reason.find("write 2001:db8::1"), std::string::npos);
}

TEST(IpAddress, WordAndBytesAreInNetworkOrder) {
  const IpAddress address = ip("192.0.2.10");
  EXPECT_EQ(address.ipv4(), htonl(0xc000020a));
  EXPECT_EQ(address.bytes()[0], 192);
  EXPECT_EQ(address.bytes()[3], 10);
  EXPECT_EQ(address.size(), 4U);
  EXPECT_EQ(IpAddress::from_ipv4(htonl(0xc000020a)), address);
  EXPECT_EQ(IpAddress::from_ipv6(ip("2001:db8::7").bytes()), ip("2001:db8::7"));
  EXPECT_EQ(IpAddress{}, ip("0.0.0.0"));
}

TEST(IpAddress, OrderIsIpv4FirstThenByValue) {
  EXPECT_LT(ip("9.0.0.0"), ip("10.0.0.0"));
  EXPECT_LT(ip("10.0.0.255"), ip("10.0.1.0"));
  EXPECT_LT(ip("255.255.255.255"), ip("::"));
  EXPECT_LT(ip("2001:db8::ff"), ip("2001:db8::100"));
  EXPECT_NE(ip("0.0.0.0"), ip("::"));
}

TEST(IpAddress, OnlyAddressesOfOneHostAreGlobalUnicast) {
  for (const char* text : {"192.0.2.10", "10.0.0.1", "1.0.0.0", "223.255.255.255", "126.1.1.1", "169.253.0.1",
                           "169.255.0.1", "2001:db8::1", "fd00::1", "fec0::1", "2::"}) {
    EXPECT_TRUE(ip(text).is_global_unicast()) << text;
  }
  for (const char* text : {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "169.254.1.1", "224.0.0.1", "239.1.1.1",
                           "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "febf::1", "ff02::1"}) {
    EXPECT_FALSE(ip(text).is_global_unicast()) << text;
  }
}

TEST(IpAddress, NextCarriesAndWraps) {
  EXPECT_EQ(ip("10.0.0.1").next(), ip("10.0.0.2"));
  EXPECT_EQ(ip("10.0.255.255").next(), ip("10.1.0.0"));
  EXPECT_EQ(ip("255.255.255.255").next(), ip("0.0.0.0"));
  EXPECT_EQ(ip("2001:db8::ffff").next(), ip("2001:db8::1:0"));
  EXPECT_EQ(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").next(), ip("::"));
}

TEST(IpAddress, HashTellsSequentialAddressesApart) {
  std::unordered_set<size_t> hashes;
  IpAddress address = ip("10.0.0.0");
  for (int i = 0; i < 10000; ++i, address = address.next()) hashes.insert(std::hash<IpAddress>{}(address));
  EXPECT_EQ(hashes.size(), 10000U);
}

TEST(Prefix, TextComesBackAndHostBitsAreRefused) {
  for (const char* text : {"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "2001:db8::1/128"}) {
    const auto prefix = Prefix::parse(text);
    ASSERT_TRUE(prefix) << prefix.error().message();
    EXPECT_EQ(prefix->to_string(), text);
  }
  for (const char* text : {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8 ", "/8",
                           "10.0.0.0/8/8", "10.0.0.1/8", "2001:db8::/129", "2001:db8::1/64", "10.0.0.0/+8"}) {
    EXPECT_FALSE(Prefix::parse(text)) << text;
  }
  EXPECT_NE(Prefix::parse("10.1.2.3/8").error().reason.find("write 10.0.0.0/8"), std::string::npos);
}

TEST(Prefix, RangeSpansAllHosts) {
  EXPECT_EQ(Prefix::parse("192.0.2.0/24")->range(), range("192.0.2.0-192.0.2.255"));
  EXPECT_EQ(Prefix::parse("0.0.0.0/0")->range(), range("0.0.0.0-255.255.255.255"));
  EXPECT_EQ(Prefix::parse("2001:db8::/127")->range(), range("2001:db8::-2001:db8::1"));
  EXPECT_EQ(Prefix::parse("::/0")->range(), range("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
}

TEST(AddressRange, ThreeFormsAreReadAndOthersRefused) {
  EXPECT_EQ(range("192.0.2.7"), (AddressRange{ip("192.0.2.7"), ip("192.0.2.7")}));
  EXPECT_EQ(range("192.0.2.0/30"), (AddressRange{ip("192.0.2.0"), ip("192.0.2.3")}));
  EXPECT_EQ(range("192.0.2.9-192.0.3.1"), (AddressRange{ip("192.0.2.9"), ip("192.0.3.1")}));
  for (const char* text : {"", "-", "192.0.2.1-", "-192.0.2.1", "192.0.2.2-192.0.2.1", "192.0.2.1-2001:db8::1",
                           "192.0.2.1 - 192.0.2.2", "192.0.2.1-5", "192.0.2.1/24", "192.0.2.0/24-192.0.2.5"}) {
    const auto refused = AddressRange::parse(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid);
  }
}

TEST(AddressRange, ContainsAndOverlapsIncludeTheEnds) {
  const AddressRange some = range("192.0.2.10-192.0.2.20");
  EXPECT_TRUE(some.contains(ip("192.0.2.10")));
  EXPECT_TRUE(some.contains(ip("192.0.2.20")));
  EXPECT_FALSE(some.contains(ip("192.0.2.9")));
  EXPECT_FALSE(some.contains(ip("192.0.2.21")));
  EXPECT_FALSE(range("0.0.0.0/0").contains(ip("::")));
  EXPECT_FALSE(range("::/0").contains(ip("192.0.2.1")));
  EXPECT_TRUE(some.overlaps(range("192.0.2.20-192.0.2.30")));
  EXPECT_TRUE(some.overlaps(range("192.0.2.12")));
  EXPECT_TRUE(range("192.0.2.12").overlaps(some));
  EXPECT_FALSE(some.overlaps(range("192.0.2.21-192.0.2.30")));
  EXPECT_FALSE(range("0.0.0.0/0").overlaps(range("::/0")));
}

TEST(AddressRange, SizeIsExactInTextAndClampedInNumbers) {
  const struct {
    const char* text;
    const char* size;
    uint64_t clamped;
  } rows[] = {
      {"192.0.2.1", "1", 1},
      {"192.0.2.0/24", "256", 256},
      {"192.0.2.10-192.0.2.20", "11", 11},
      {"192.0.2.1-192.0.2.9", "9", 9},
      {"192.0.2.1-192.0.2.10", "10", 10},
      {"0.0.0.0/0", "4294967296", 4294967296},
      {"2001:db8::/64", "18446744073709551616", UINT64_MAX},
      {"2001:db8::1-2001:db8::ffff:ffff:ffff:ffff", "18446744073709551615", UINT64_MAX},
      {"2001:db8::2-2001:db8::ffff:ffff:ffff:ffff", "18446744073709551614", UINT64_MAX - 1},
      {"::/0", "340282366920938463463374607431768211456", UINT64_MAX},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(range(row.text).size_text(), row.size) << row.text;
    EXPECT_EQ(range(row.text).size_clamped(), row.clamped) << row.text;
  }
}

TEST(AddressRange, TextIsTheShortestFormAndComesBack) {
  const struct {
    const char* text;
    const char* shown;
  } rows[] = {
      {"192.0.2.0-192.0.2.255", "192.0.2.0/24"},
      {"192.0.2.1-192.0.2.1", "192.0.2.1"},
      {"192.0.2.1/32", "192.0.2.1"},
      {"192.0.2.1-192.0.2.2", "192.0.2.1-192.0.2.2"},
      {"192.0.2.4-192.0.2.11", "192.0.2.4-192.0.2.11"},
      {"192.0.2.0-192.0.2.254", "192.0.2.0-192.0.2.254"},
      {"0.0.0.0-255.255.255.255", "0.0.0.0/0"},
      {"2001:db8::-2001:db8::ffff", "2001:db8::/112"},
      {"::/0", "::/0"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(range(row.text).to_string(), row.shown);
    EXPECT_EQ(range(row.shown), range(row.text));
  }
}

TEST(Prefix, IsReadLooselyAsKubernetesReadsSourceRanges) {
  const std::pair<const char*, const char*> rows[] = {
      {"10.0.0.0/8", "10.0.0.0/8"},
      {" 10.1.2.3/8\n", "10.0.0.0/8"},
      {"2001:DB8:0::1/32", "2001:db8::/32"},
      {"203.0.113.7/32", "203.0.113.7/32"},
      {"::/0", "::/0"},
  };
  for (const auto& [text, prefix] : rows) {
    const auto read = Prefix::parse_loosely(text);
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(read->to_string(), prefix) << text;
  }
  for (const char* text : {"", " ", "/", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::ffff:10.0.0.0/104",
                           "10.0.0.0/8,11.0.0.0/8", "office"}) {
    EXPECT_FALSE(Prefix::parse_loosely(text)) << text;
  }
}

}  // namespace
}  // namespace sluice::net
