// From an address to a service, and from a slot to a backend record: the agent's tables as the programs read them.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class TableTest : public DataplaneTest, public ::testing::WithParamInterface<Family> {
 protected:
  TableTest() : DataplaneTest(GetParam()) {
    service_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)});
  }
  [[nodiscard]] uint64_t key() const {
    const sluice_address end = element(service_end_.address);
    return ipv6() ? sluice_key_ipv6(end.words[0], end.words[1], htons(service_end_.port), kTcp)
                  : sluice_key_ipv4(end.ipv4, htons(service_end_.port), kTcp);
  }
  // Makes a table of 2^log2 entries at `offset` the one in force; returns where the service's probes start in it.
  uint32_t switch_table(uint32_t offset, uint32_t log2, uint32_t seed) {
    plane_.settings().key_table = SLUICE_KEY_TABLE_WORD(offset, log2, seed);
    return sluice_key_hash(key(), seed) & ((1U << log2) - 1);
  }
  [[nodiscard]] bool found() { return plane_.receive(to_service()).frame == to_service().to(local_end_).frame(); }
  // What the first table has for the service.
  [[nodiscard]] sluice_key_entry entry() {
    for (uint32_t i = 0; i < 256; i++)
      if (plane_.key(i).key == key()) return plane_.key(i);
    throw std::runtime_error("the service has no key");
  }
  Service service_;
};
INSTANTIATE_TEST_SUITE_P(Families, TableTest, kFamilies, family_name);

TEST_P(TableTest, AKeyIsFoundAtEachOfItsProbesAndNotBeyond) {
  for (uint32_t probe = 0; probe <= SLUICE_MAX_PROBES; probe++) {
    SCOPED_TRACE(probe);
    const uint32_t start = switch_table(704, 6, 100 + probe);
    for (uint32_t i = 0; i < 64; i++) plane_.key(704 + i) = {.key = 0x99 + i * 256, .value = 60, .extra = 0};
    plane_.key(704 + ((start + probe) & 63)) = entry();
    EXPECT_EQ(found(), probe < SLUICE_MAX_PROBES);
  }
}

TEST_P(TableTest, AnEmptyKeyEndsTheSearchAndADeletedOneDoesNot) {
  const uint32_t start = switch_table(640, 6, 7);
  plane_.key(640 + ((start + 2) & 63)) = entry();
  plane_.key(640 + start) = {.key = 0x99, .value = 60, .extra = 0};
  EXPECT_FALSE(found());
  plane_.key(640 + ((start + 1) & 63)) = {.key = SLUICE_KEY_DELETED, .value = 60, .extra = 0};
  EXPECT_TRUE(found());
}

TEST_P(TableTest, ProbesWrapWithinTheTable) {
  uint32_t seed = 0;
  while ((sluice_key_hash(key(), seed) & 15) != 15) seed++;
  switch_table(656, 4, seed);
  plane_.key(671) = {.key = 0x99, .value = 60, .extra = 0};
  plane_.key(672) = {.key = 0x99, .value = 60, .extra = 0};  // behind the table: another generation's
  EXPECT_FALSE(found());
  plane_.key(656) = entry();
  EXPECT_TRUE(found());
}

TEST_P(TableTest, OneWordSwitchesBetweenGenerations) {
  const uint64_t first = plane_.settings().key_table;
  EXPECT_TRUE(found());
  switch_table(704, 6, 9);
  EXPECT_FALSE(found());
  plane_.settings().key_table = first;
  EXPECT_TRUE(found());
}

TEST_P(TableTest, AddressPortAndProtocolAllBelongToTheKey) {
  const struct {
    Endpoint end;
    uint8_t protocol;
    Endpoint backend;
  } cases[] = {{service_end_, kUdp, at("10.244.1.1", 1)},
               {at("203.0.113.10", 443), kTcp, at("10.244.1.2", 2)},
               {at("203.0.113.11", 80), kTcp, at("10.244.1.3", 3)}};
  for (const auto& c : cases) plane_.add_service(c.end, c.protocol, {local_backend(c.backend)});
  for (const auto& c : cases) {
    const Packet packet = (c.protocol == kTcp ? to_service() : udp_to_service()).to(c.end);
    EXPECT_TRUE(same_frame(plane_.receive(packet).frame, Packet(packet).to(c.backend).frame()));
  }
}

TEST_P(TableTest, ManyServicesEachFindTheirOwn) {
  for (uint32_t i = 0; i < 24; i++)
    plane_.add_service({address("203.0.113.100") + i, 80}, kTcp, {local_backend({address("10.244.2.0") + i, 8080})});
  for (uint32_t i = 0; i < 24; i++) {
    const Packet packet = to_service().to({address("203.0.113.100") + i, 80});
    EXPECT_TRUE(same_frame(plane_.receive(packet).frame, Packet(packet).to({address("10.244.2.0") + i, 8080}).frame()));
  }
}

TEST_P(TableTest, AServiceWithoutBackendsRefusesAndCounts) {
  const Service empty = plane_.add_service(at("203.0.113.20", 80), kTcp, {});
  plane_.receive(to_service(kSyn).to(empty.end));
  EXPECT_EQ(plane_.counted(empty, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_P(TableTest, ASlotWithoutABackendRefusesAndCounts) {
  plane_.set_planes(service_, {std::vector<uint16_t>(8, SLUICE_NO_BACKEND)});
  plane_.receive(to_service(kSyn));
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_P(TableTest, WhatLeadsNowhereIsDroppedAsStale) {
  const auto dropped_as_stale = [this] {
    const uint64_t before = plane_.counted(service_, SLUICE_REASON_STALE_TABLE);
    return plane_.receive(to_service(kSyn)).action == XDP_DROP &&
           plane_.counted(service_, SLUICE_REASON_STALE_TABLE) == before + 1;
  };
  sluice_backend& record = plane_.backend(service_.first_backend);
  const sluice_backend good = record;
  record = {};
  EXPECT_TRUE(dropped_as_stale()) << "a backend record that is not in use";
  record = good;
  record.what = SLUICE_BACKEND_WORD(htons(local_end_.port), 0, service_.index, 9, 0ULL);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP) << "a forwarding that there is not";
  record.what = SLUICE_BACKEND_WORD(htons(local_end_.port), 0, service_.index + 1, SLUICE_FORWARD_LOCAL, 0ULL);
  EXPECT_TRUE(dropped_as_stale()) << "another service's backend record";
  EXPECT_TRUE(plane_.flows().empty());
  record = good;
  EXPECT_TRUE(found());
}

// Whatever stands in the tables, the program reads within them and nothing else comes of it.
TEST_P(TableTest, IndicesBeyondTheTablesWrap) {
  for (const uint64_t word : std::initializer_list<uint64_t>{
           SLUICE_TABLE_WORD(1ULL << 20, 4, 0, 1, 0), SLUICE_TABLE_WORD(0ULL, 31, 7, 1, 0x1ffffff), UINT64_MAX}) {
    plane_.service(service_.index).table = word;
    plane_.receive(to_service(kSyn));
    plane_.receive(to_service());
  }
  plane_.service(service_.index).table = service_.word;
  for (const uint64_t word : std::initializer_list<uint64_t>{SLUICE_KEY_TABLE_WORD(1ULL << 20, 6, 1),
                                                             SLUICE_KEY_TABLE_WORD(0ULL, 31, 1), UINT64_MAX}) {
    plane_.settings().key_table = word;
    plane_.receive(to_service(kSyn));
  }
}

TEST_P(TableTest, EveryDropIsCountedByServiceAndOverAll) {
  const Service empty = plane_.add_service(at("203.0.113.20", 80), kTcp, {});
  plane_.receive(to_service(kSyn).to(empty.end));
  plane_.receive(to_service(kSyn).to(empty.end));
  plane_.receive(to_service().total_length(0));
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NO_BACKEND), 2U);
  EXPECT_EQ(plane_.counted(empty, SLUICE_REASON_NO_BACKEND), 2U);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_BACKEND), 0U);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_MALFORMED), 1U);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_FORWARDED_LOCAL), 0U);
}

}  // namespace
}  // namespace sluice::packets
