// The layouts that C++ and the kernel share: fixed sizes here, and the same in the BTF of the programs' object.
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <cstddef>
#include <cstring>
#include <memory>

#include "bpf/sluice.skel.h"
#include "tests/packets/dataplane.h"

namespace sluice::packets {
namespace {

// Whoever changes one of these raises SLUICE_LAYOUT_VERSION.
static_assert(sizeof(sluice_service_key_entry) == 16);
static_assert(sizeof(sluice_service) == 16);
static_assert(sizeof(sluice_backend) == 32);
static_assert(sizeof(sluice_egress) == 16);
static_assert(sizeof(sluice_flow_key) == 16);
static_assert(sizeof(sluice_flow) == 48);
static_assert(sizeof(sluice_owned_key) == 8);
static_assert(sizeof(sluice_owned) == 8);
static_assert(sizeof(sluice_config) == 48);
static_assert(sizeof(sluice_counters) == 40);
static_assert(sizeof(sluice_reason_counters) == 16);
static_assert(sizeof(sluice_service_reason_key) == 8);
static_assert(offsetof(sluice_flow, state) % 4 == 0);  // the programs or bits into the word it begins
static_assert(SLUICE_REASON_FORWARDED_LOCAL == 0);     // the programs take 0 for "nothing against it"
// Elements of memory-mapped arrays lie this far apart.
static_assert(sizeof(sluice_service_key_entry) % 8 == 0 && sizeof(sluice_service) % 8 == 0 &&
              sizeof(sluice_backend) % 8 == 0 && sizeof(sluice_egress) % 8 == 0 && sizeof(sluice_config) % 8 == 0);

using Object = std::unique_ptr<bpf_object, decltype(&bpf_object__close)>;

// The programs' object as the skeleton holds it: read, not loaded.
Object opened() {
  size_t size = 0;
  const void* const elf = sluice_bpf__elf_bytes(&size);
  return {bpf_object__open_mem(elf, size, nullptr), bpf_object__close};
}

TEST(Words, OfTheServiceTableGiveBackWhatWasPutIn) {
  const uint64_t word = SLUICE_SERVICE_TABLE_WORD(0xabcdef, 17, 0x87654321);
  EXPECT_EQ(SLUICE_SERVICE_TABLE_OFFSET(word), 0xabcdefU);
  EXPECT_EQ(SLUICE_SERVICE_TABLE_LOG2(word), 17U);
  EXPECT_EQ(SLUICE_SERVICE_TABLE_SEED(word), 0x87654321U);
}

TEST(Words, OfAServicesTableGiveBackWhatWasPutIn) {
  const uint64_t word = SLUICE_TABLE_WORD(0x123450 * SLUICE_SLOT_UNIT, 31, 7, 0xa5, 0x1fffffe);
  EXPECT_EQ(SLUICE_TABLE_OFFSET(word), 0x123450U * SLUICE_SLOT_UNIT);
  EXPECT_EQ(SLUICE_TABLE_LOG2(word), 31U);
  EXPECT_EQ(SLUICE_TABLE_EARLIER(word), 7U);
  EXPECT_EQ(SLUICE_TABLE_GENERATION(word), 0x25U);
  EXPECT_EQ(SLUICE_TABLE_BACKENDS(word), 0x1fffffeU);
}

TEST(Words, OfANextHopHaveTheMacsFirstByteLowest) {
  const uint64_t word = SLUICE_NEXT_HOP_WORD(0xfffe, 0x665544332211ULL);
  EXPECT_EQ(SLUICE_NEXT_HOP_EGRESS(word), 0xfffeU);
  const uint8_t mac[6] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66};
  EXPECT_EQ(std::memcmp(&word, mac, sizeof(mac)), 0);
}

struct Member {
  const char* type;
  const char* name;
  size_t offset;
};
#define MEMBER(type, name)             \
  Member {                             \
#type, #name, offsetof(type, name) \
  }

TEST(Layout, OfEveryMemberIsTheSameInTheProgramsObject) {
  const Member members[] = {MEMBER(sluice_service_key_entry, service),
                            MEMBER(sluice_service, flags),
                            MEMBER(sluice_backend, address),
                            MEMBER(sluice_backend, port),
                            MEMBER(sluice_backend, forwarding),
                            MEMBER(sluice_backend, service),
                            MEMBER(sluice_egress, source),
                            MEMBER(sluice_egress, mac),
                            MEMBER(sluice_egress, mtu),
                            MEMBER(sluice_flow_key, source),
                            MEMBER(sluice_flow_key, backend_port),
                            MEMBER(sluice_flow_key, source_port),
                            MEMBER(sluice_flow_key, protocol),
                            MEMBER(sluice_flow, client),
                            MEMBER(sluice_flow, address),
                            MEMBER(sluice_flow, client_port),
                            MEMBER(sluice_flow, port),
                            MEMBER(sluice_flow, state),
                            MEMBER(sluice_flow, forwarding),
                            MEMBER(sluice_flow, client_mac),
                            MEMBER(sluice_flow, ifindex),
                            MEMBER(sluice_flow, service),
                            MEMBER(sluice_flow, backend),
                            MEMBER(sluice_flow, hash),
                            MEMBER(sluice_flow, touched),
                            MEMBER(sluice_owned_key, ifindex),
                            MEMBER(sluice_config, flow_hash_key),
                            MEMBER(sluice_config, nat_sources),
                            MEMBER(sluice_config, nat_port_first),
                            MEMBER(sluice_config, nat_port_last),
                            MEMBER(sluice_counters, flows),
                            MEMBER(sluice_counters, return_bytes),
                            MEMBER(sluice_reason_counters, bytes),
                            MEMBER(sluice_service_reason_key, reason)};
  const Object object = opened();
  ASSERT_NE(object, nullptr);
  const btf* const types = bpf_object__btf(object.get());
  for (const Member& member : members) {
    const int id = btf__find_by_name_kind(types, member.type, BTF_KIND_STRUCT);
    ASSERT_GT(id, 0) << member.type;
    const btf_type* const type = btf__type_by_id(types, static_cast<uint32_t>(id));
    bool found = false;
    for (uint32_t i = 0; i < btf_vlen(type); i++) {
      if (std::strcmp(btf__name_by_offset(types, btf_members(type)[i].name_off), member.name) != 0) continue;
      found = true;
      EXPECT_EQ(btf_member_bit_offset(type, i), member.offset * 8) << member.type << "." << member.name;
    }
    EXPECT_TRUE(found) << member.type << "." << member.name;
  }
}

TEST(Layout, OfEveryMapIsThatOfItsTypes) {
  const Object object = opened();
  ASSERT_NE(object, nullptr);
  const struct {
    const char* name;
    size_t key, value;
    bool mapped;
  } maps[] = {{"config", 4, sizeof(sluice_config), true},
              {"service_keys", 4, sizeof(sluice_service_key_entry), true},
              {"services", 4, sizeof(sluice_service), true},
              {"slots", 4, sizeof(uint64_t), true},
              {"backends", 4, sizeof(sluice_backend), true},
              {"egress", 4, sizeof(sluice_egress), true},
              {"flows", sizeof(sluice_flow_key), sizeof(sluice_flow), false},
              {"owned_addresses", sizeof(sluice_owned_key), sizeof(sluice_owned), false},
              {"service_counters", 4, sizeof(sluice_counters), false},
              {"backend_counters", 4, sizeof(sluice_counters), false},
              {"reasons", 4, sizeof(sluice_reason_counters), false},
              {"service_reasons", sizeof(sluice_service_reason_key), sizeof(sluice_reason_counters), false}};
  for (const auto& c : maps) {
    SCOPED_TRACE(c.name);
    const bpf_map* const map = bpf_object__find_map_by_name(object.get(), c.name);
    ASSERT_NE(map, nullptr);
    EXPECT_EQ(bpf_map__key_size(map), c.key);
    EXPECT_EQ(bpf_map__value_size(map), c.value);
    EXPECT_EQ((bpf_map__map_flags(map) & BPF_F_MMAPABLE) != 0, c.mapped);
  }
  EXPECT_EQ(bpf_map__max_entries(bpf_object__find_map_by_name(object.get(), "reasons")),
            static_cast<uint32_t>(SLUICE_REASON_COUNT));
}

TEST(Verifier, NeedsFewInstructions) {
  const Dataplane plane;
  EXPECT_GT(plane.verified_instructions(), 1000U);
  EXPECT_LT(plane.verified_instructions(), 100'000U) << "of a million: verification time and room for more";
}

}  // namespace
}  // namespace sluice::packets
