// From an address to a service, and from a slot to a backend record: the agent's tables as the programs read them.
#include <arpa/inet.h>
#include <linux/bpf.h>

#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

class TableTest : public DataplaneTest {
 protected:
  TableTest() { service_ = plane_.add_service(service_end_, kTcp, {local_backend(local_end_)}); }
  [[nodiscard]] uint64_t key() const {
    return sluice_key_ipv4(htonl(service_end_.address), htons(service_end_.port), kTcp);
  }
  // Makes a table of 2^log2 entries at `offset` the one in force; returns where the service's probes start in it.
  uint32_t switch_table(uint32_t offset, uint32_t log2, uint32_t seed) {
    plane_.settings().service_table = SLUICE_SERVICE_TABLE_WORD(offset, log2, seed);
    plane_.write_settings();
    return sluice_service_hash(key(), seed) & ((1U << log2) - 1);
  }
  [[nodiscard]] bool found() { return plane_.receive(to_service()).frame == to_service().to(local_end_).frame(); }
  [[nodiscard]] sluice_service_key_entry entry() const {
    return {.key = key(), .service = service_.index, .reserved = 0};
  }
  Service service_;
};

TEST_F(TableTest, AKeyIsFoundAtEachOfItsProbesAndNotBeyond) {
  for (uint32_t probe = 0; probe <= SLUICE_MAX_PROBES; probe++) {
    SCOPED_TRACE(probe);
    const uint32_t start = switch_table(64, 6, 100 + probe);
    for (uint32_t i = 0; i < 64; i++) plane_.set_key(64 + i, {.key = 0x99 + i * 256, .service = 60, .reserved = 0});
    plane_.set_key(64 + ((start + probe) & 63), entry());
    EXPECT_EQ(found(), probe < SLUICE_MAX_PROBES);
  }
}

TEST_F(TableTest, AnEmptyKeyEndsTheSearchAndADeletedOneDoesNot) {
  const uint32_t start = switch_table(128, 6, 7);
  plane_.set_key(128 + ((start + 2) & 63), entry());
  plane_.set_key(128 + start, {.key = 0x99, .service = 60, .reserved = 0});
  EXPECT_FALSE(found());
  plane_.set_key(128 + ((start + 1) & 63), {.key = SLUICE_KEY_DELETED, .service = 60, .reserved = 0});
  EXPECT_TRUE(found());
}

TEST_F(TableTest, ProbesWrapWithinTheTable) {
  uint32_t seed = 0;
  while ((sluice_service_hash(key(), seed) & 15) != 15) seed++;
  switch_table(16, 4, seed);
  plane_.set_key(31, {.key = 0x99, .service = 60, .reserved = 0});
  plane_.set_key(32, {.key = 0x99, .service = 60, .reserved = 0});  // behind the table: another generation's
  EXPECT_FALSE(found());
  plane_.set_key(16, entry());
  EXPECT_TRUE(found());
}

TEST_F(TableTest, OneWordSwitchesBetweenGenerations) {
  const uint64_t first = plane_.settings().service_table;
  EXPECT_TRUE(found());
  switch_table(192, 6, 9);
  EXPECT_FALSE(found());
  plane_.settings().service_table = first;
  plane_.write_settings();
  EXPECT_TRUE(found());
}

TEST_F(TableTest, ATableBeyondItsMapFindsNothing) {
  switch_table(1 << 20, 6, 1);
  EXPECT_FALSE(found());
  EXPECT_EQ(plane_.counted(SLUICE_REASON_NOT_FOR_US), 1U);
}

TEST_F(TableTest, AddressPortAndProtocolAllBelongToTheKey) {
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

TEST_F(TableTest, ManyServicesEachFindTheirOwn) {
  for (uint32_t i = 0; i < 24; i++)
    plane_.add_service({.address = ip("203.0.113.100") + i, .port = 80}, kTcp,
                       {local_backend({.address = ip("10.244.2.0") + i, .port = 8080})});
  for (uint32_t i = 0; i < 24; i++) {
    const Packet packet = to_service().to({.address = ip("203.0.113.100") + i, .port = 80});
    EXPECT_TRUE(same_frame(plane_.receive(packet).frame,
                           Packet(packet).to({.address = ip("10.244.2.0") + i, .port = 8080}).frame()));
  }
}

TEST_F(TableTest, AServiceWithoutBackendsDropsAndCounts) {
  const Service empty = plane_.add_service(at("203.0.113.20", 80), kTcp, {});
  EXPECT_EQ(plane_.receive(to_service(kSyn).to(empty.end)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(empty, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_F(TableTest, ASlotWithoutABackendDropsAndCounts) {
  plane_.set_planes(service_, {std::vector<uint16_t>(8, SLUICE_NO_BACKEND)});
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(service_, SLUICE_REASON_NO_BACKEND), 1U);
}

TEST_F(TableTest, WhatLeadsNowhereIsDroppedAsStale) {
  const auto dropped_as_stale = [this] {
    const uint64_t before = plane_.counted(service_, SLUICE_REASON_STALE_TABLE);
    return plane_.receive(to_service(kSyn)).action == XDP_DROP &&
           plane_.counted(service_, SLUICE_REASON_STALE_TABLE) == before + 1;
  };
  const sluice_service good{.table = service_.word, .flags = SLUICE_SERVICE_VALID, .reserved = 0};
  plane_.set_service(service_.index, {.table = service_.word, .flags = 0, .reserved = 0});
  EXPECT_TRUE(dropped_as_stale()) << "a service that is not in use";
  plane_.set_service(service_.index,
                     {.table = SLUICE_TABLE_WORD(1 << 20, 4, 0, 1, 0), .flags = SLUICE_SERVICE_VALID, .reserved = 0});
  EXPECT_TRUE(dropped_as_stale()) << "slots beyond the arena";
  plane_.set_service(service_.index,
                     {.table = SLUICE_TABLE_WORD(0, 4, 0, 1, 100'000), .flags = SLUICE_SERVICE_VALID, .reserved = 0});
  EXPECT_TRUE(dropped_as_stale()) << "a backend record beyond its map";
  plane_.set_service(service_.index, good);
  sluice_backend record{};
  record.address = htonl(local_end_.address);
  record.port = htons(local_end_.port);
  record.service = service_.index;
  plane_.set_backend_record(service_.first_backend, record);
  EXPECT_TRUE(dropped_as_stale()) << "a backend record that is not in use";
  record.forwarding = 3;
  plane_.set_backend_record(service_.first_backend, record);
  EXPECT_TRUE(dropped_as_stale()) << "a forwarding that is not built";
  record.forwarding = SLUICE_FORWARD_LOCAL;
  record.service = service_.index + 1;
  plane_.set_backend_record(service_.first_backend, record);
  EXPECT_TRUE(dropped_as_stale()) << "another service's backend record";
  record.service = service_.index;
  plane_.set_backend_record(service_.first_backend, record);
  EXPECT_TRUE(found());
}

TEST_F(TableTest, AKeyThatLeadsToNoServiceRecordIsDroppedAsStale) {
  const uint32_t start = switch_table(64, 6, 5);
  sluice_service_key_entry wrong = entry();
  wrong.service = 1'000'000;
  plane_.set_key(64 + start, wrong);
  EXPECT_EQ(plane_.receive(to_service(kSyn)).action, XDP_DROP);
  EXPECT_EQ(plane_.counted(SLUICE_REASON_STALE_TABLE), 1U);
}

TEST_F(TableTest, EveryDropIsCountedByServiceAndOverAll) {
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
