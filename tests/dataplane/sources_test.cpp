// Allowed sources in the kernel's maps: who is let in by the program that is attached.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "bpf/sluice.h"
#include "node-agent/dataplane/device.h"
#include "tests/dataplane/packet.h"
#include "tests/dataplane/sandbox.h"

namespace sluice::agent::dataplane::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kDrop = 1;
constexpr int kTransmit = 3;
constexpr uint32_t kRoom = 1U << 17;  // for the prefixes of one family

std::vector<net::Prefix> prefixes(const std::vector<std::string>& texts) {
  std::vector<net::Prefix> out;
  for (const std::string& text : texts) {
    out.push_back(net::Prefix::parse(text).value());
  }
  return out;
}

// `count` different /32 from `first` on, host order.
std::vector<net::Prefix> many(uint32_t first, uint32_t count) {
  std::vector<net::Prefix> out;
  for (uint32_t n = first; n < first + count; ++n) {
    out.push_back({net::IpAddress::from_ipv4(__builtin_bswap32(n)), 32});
  }
  return out;
}

class AllowedSources : public SandboxTest {
 protected:
  void SetUp() override {
    SandboxTest::SetUp();
    dataplane_ = open();
    state_ = some_state(2);
    state_.services.merge(some_state6(2).services);
    program();
    ASSERT_TRUE(dataplane_->attach({{"near", AttachMode::native}}));
  }
  void TearDown() override {
    dataplane_.reset();
    SandboxTest::TearDown();
  }
  std::vector<ServiceFailure> program() {
    return dataplane_->program(state_, "node0", ways_by(state_, "near")).failures;
  }
  // Of web0 or web0/IPv6, by the client's family.
  int verdict(const std::string& client, const std::string& last = "1") {
    const std::string address = (client.find(':') == std::string::npos ? "192.0.2." : "2001:db8::") + last;
    return run_packet(program_fd("near"), udp_packet(*device_by_name("near"), client, 4711, address, 80)).verdict;
  }
  template <typename Key>
  size_t entries(const char* map) {
    Key key{};
    const void* before = nullptr;
    size_t count = 0;
    while (bpf_map_get_next_key(pinned_map(map), before, &key) == 0) {
      before = &key;
      ++count;
    }
    return count;
  }
  size_t entries4() { return entries<sluice_sources4_key>("sources4"); }
  size_t entries6() { return entries<sluice_sources6_key>("sources6"); }
  uint32_t set_of(const std::string& address) {
    for (const sluice_key_entry& entry : table<sluice_key_entry>("keys")) {
      if (entry.key == sluice_key_ipv4(ip(address).ipv4(), __builtin_bswap16(80), 17)) {
        return SLUICE_SETTINGS_SOURCES(table<sluice_service>("services")[entry.value].settings);
      }
    }
    return 0;
  }

  std::unique_ptr<Dataplane> dataplane_;
  state::DesiredState state_;
};

TEST_F(AllowedSources, LetInTheirClientsAndNoOthersInBothFamilies) {
  state_.services["web0"].allowed_sources = prefixes({"203.0.113.0/24", "198.51.100.7/32"});
  state_.services["web0/IPv6"].allowed_sources = prefixes({"2001:db8:1::/48"});
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);
  EXPECT_EQ(verdict("198.51.100.7"), kTransmit);
  EXPECT_EQ(verdict("198.51.100.8"), kDrop);
  EXPECT_EQ(verdict("198.51.100.8", "2"), kTransmit) << "another service";
  EXPECT_EQ(verdict("2001:db8:1:2::3"), kTransmit);
  EXPECT_EQ(verdict("2001:db8:2::3"), kDrop);
  EXPECT_EQ(verdict("2001:db8:2::3", "2"), kTransmit);
  const auto counters = dataplane_->counters().value();
  uint64_t dropped = 0;
  for (const auto& one : counters.reasons) {
    dropped += one.reason == "source_not_allowed" && one.service == "web0" ? one.packets : 0;
  }
  EXPECT_EQ(dropped, 1U);
}

TEST_F(AllowedSources, OfTheOtherFamilyOnlyLetNobodyIn) {
  state_.services["web0/IPv6"].allowed_sources = prefixes({"203.0.113.0/24"});
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("2001:db8:1::3"), kDrop);
}

TEST_F(AllowedSources, ChangeAtOnceAndLeaveNothingOfTheFormer) {
  state_.services["web0"].allowed_sources = prefixes({"203.0.113.0/24"});
  state_.services["web0/IPv6"].allowed_sources = prefixes({"2001:db8:1::/48"});
  program();
  state_.services["web0"].allowed_sources = prefixes({"198.51.100.0/24"});
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9"), kDrop);
  EXPECT_EQ(verdict("198.51.100.8"), kTransmit);
  EXPECT_EQ(entries4(), 1U);
  state_.services["web0"].allowed_sources.clear();
  state_.services.erase("web0/IPv6");
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);
  EXPECT_EQ(entries4(), 0U);
  EXPECT_EQ(entries6(), 0U);
}

TEST_F(AllowedSources, ThatAreTheSameLieInTheMapOnce) {
  for (auto& [id, service] : state_.services) {
    service.allowed_sources = prefixes({"203.0.113.0/24", "2001:db8:1::/48"});
  }
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(entries4(), 1U);
  EXPECT_EQ(entries6(), 1U);
  EXPECT_EQ(set_of("192.0.2.1"), set_of("192.0.2.2"));
}

TEST_F(AllowedSources, OutliveTheAgentAndWhatAnInterruptedOneHasLeftDoesNot) {
  state_.services["web0"].allowed_sources = prefixes({"203.0.113.0/24"});
  program();
  dataplane_.reset();
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);
  EXPECT_EQ(verdict("198.51.100.8"), kDrop);
  const uint32_t there = 1;
  const sluice_sources4_key stray{32 + 24, set_of("192.0.2.1") + 1, ip("198.51.100.0").ipv4()};
  ASSERT_EQ(bpf_map_update_elem(pinned_map("sources4"), &stray, &there, BPF_ANY), 0);
  dataplane_ = open();
  EXPECT_EQ(entries4(), 1U) << "the set that a service names";
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);
  EXPECT_EQ(verdict("198.51.100.8"), kDrop);
  EXPECT_EQ(entries4(), 1U);
}

TEST_F(AllowedSources, ThatSomebodyHasChangedAreFoundAndTheNextProgramMendsThem) {
  state_.services["web0"].allowed_sources = prefixes({"203.0.113.0/24", "198.51.100.0/24"});
  program();
  EXPECT_THAT(dataplane_->verify().failures, IsEmpty());
  const sluice_sources4_key gone{32 + 24, set_of("192.0.2.1"), ip("203.0.113.0").ipv4()};
  ASSERT_EQ(bpf_map_delete_elem(pinned_map("sources4"), &gone), 0);
  auto failures = dataplane_->verify().failures;
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].service, "web0");
  EXPECT_EQ(failures[0].reason, "ReadBackDiffers");
  EXPECT_EQ(failures[0].message, "clients of 203.0.113.0/24 are not let in");
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_THAT(dataplane_->verify().failures, IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9"), kTransmit);

  const uint32_t there = 1;
  const sluice_sources4_key more{32, set_of("192.0.2.1"), 0};
  ASSERT_EQ(bpf_map_update_elem(pinned_map("sources4"), &more, &there, BPF_ANY), 0);
  EXPECT_EQ(verdict("192.0.2.200"), kTransmit);
  failures = dataplane_->verify().failures;
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].message, "clients of 0.0.0.0/0 are let in, and are not allowed");
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_THAT(dataplane_->verify().failures, IsEmpty());
  EXPECT_EQ(verdict("192.0.2.200"), kDrop);
}

TEST_F(AllowedSources, ThatFindNoRoomAreToldUntilThereIsSome) {
  state_.services["web0"].allowed_sources = many(0x0b000000, kRoom);
  EXPECT_THAT(program(), IsEmpty());
  state_.services["web1"].allowed_sources = prefixes({"203.0.113.0/24", "198.51.100.0/24"});
  auto failures = program();
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].service, "web1");
  EXPECT_EQ(failures[0].reason, "TableFull");
  EXPECT_THAT(failures[0].message, HasSubstr("198.51.100.0/24"));
  EXPECT_EQ(verdict("203.0.113.9", "2"), kDrop);
  EXPECT_EQ(dataplane_->verify().failures.size(), 1U);
  state_.services["web0"].allowed_sources.resize(10);
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("203.0.113.9", "2"), kTransmit);
  EXPECT_EQ(entries4(), 12U);
  EXPECT_THAT(dataplane_->verify().failures, IsEmpty());
}

TEST_F(AllowedSources, TakeThePlaceOfOthersThatHadFilledTheMap) {
  state_.services["web0"].allowed_sources = many(0x0b000000, kRoom - 10);
  EXPECT_THAT(program(), IsEmpty());
  state_.services["web0"].allowed_sources = many(0x0c000000, kRoom - 10);
  EXPECT_THAT(program(), IsEmpty());
  EXPECT_EQ(verdict("12.0.0.1"), kTransmit);
  EXPECT_EQ(verdict("11.0.0.1"), kDrop);
}

}  // namespace
}  // namespace sluice::agent::dataplane::testing
