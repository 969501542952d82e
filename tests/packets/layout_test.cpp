// The layouts that C++ and the kernel share: fixed sizes here, and the same to the compiler of the programs.
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
static_assert(sizeof(sluice_config) == 64);
static_assert(sizeof(sluice_key_entry) == 16);
static_assert(sizeof(sluice_key6) == 24);
static_assert(sizeof(sluice_service) == 16);
static_assert(sizeof(sluice_backend) == 32);
static_assert(sizeof(sluice_egress) == 64);
static_assert(sizeof(sluice_peer) == 128);
static_assert(sizeof(sluice_proof) == 32);
static_assert(sizeof(sluice_flow4) == 64);  // one cache line
static_assert(sizeof(sluice_flow6) == 112);
static_assert(sizeof(sluice_shares) == 16);
static_assert(sizeof(sluice_owned_key) == 24);
static_assert(sizeof(sluice_owned) == 8);
static_assert(sizeof(sluice_counters) == 64);
static_assert(sizeof(sluice_count) == 16);
static_assert(sizeof(sluice_service_reason_key) == 16);
static_assert(sizeof(sluice_tunnel_meta) == 4);
static_assert(SLUICE_REASON_FORWARDED_LOCAL == 0);  // the programs take 0 for "nothing against it"

using Object = std::unique_ptr<bpf_object, decltype(&bpf_object__close)>;

// The programs' object as the skeleton holds it: read, not loaded.
Object opened() {
  size_t size = 0;
  const void* const elf = sluice_bpf__elf_bytes(&size);
  return {bpf_object__open_mem(elf, size, nullptr), bpf_object__close};
}

TEST(Words, OfTheKeyTableGiveBackWhatWasPutIn) {
  const uint64_t word = SLUICE_KEY_TABLE_WORD(0xabcdef, 17, 0x87654321);
  EXPECT_EQ(SLUICE_KEY_TABLE_OFFSET(word), 0xabcdefU);
  EXPECT_EQ(SLUICE_KEY_TABLE_LOG2(word), 17U);
  EXPECT_EQ(SLUICE_KEY_TABLE_SEED(word), 0x87654321U);
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

TEST(Layout, OfEveryMemberIsTheSameToTheProgramsCompiler) {
  const Member members[] = {MEMBER(sluice_config, flow_hash_key),
                            MEMBER(sluice_config, nat_port_first),
                            MEMBER(sluice_config, nat_port_last),
                            MEMBER(sluice_config, tunnel_port),
                            MEMBER(sluice_config, underlay4),
                            MEMBER(sluice_config, underlay6),
                            MEMBER(sluice_key_entry, value),
                            MEMBER(sluice_key_entry, extra),
                            MEMBER(sluice_key6, port),
                            MEMBER(sluice_key6, protocol),
                            MEMBER(sluice_service, settings),
                            MEMBER(sluice_backend, address),
                            MEMBER(sluice_backend, what),
                            MEMBER(sluice_egress, mtu),
                            MEMBER(sluice_egress, mac),
                            MEMBER(sluice_egress, flags),
                            MEMBER(sluice_egress, source4),
                            MEMBER(sluice_egress, device),
                            MEMBER(sluice_egress, source6),
                            MEMBER(sluice_peer, state),
                            MEMBER(sluice_peer, token),
                            MEMBER(sluice_peer, outer),
                            MEMBER(sluice_peer, accepted),
                            MEMBER(sluice_proof, seen),
                            MEMBER(sluice_flow_head, seen),
                            MEMBER(sluice_flow_head, control),
                            MEMBER(sluice_flow_head, next_hop),
                            MEMBER(sluice_flow_head, service),
                            MEMBER(sluice_flow_head, backend),
                            MEMBER(sluice_flow4, source),
                            MEMBER(sluice_flow4, tuple),
                            MEMBER(sluice_flow4, client),
                            MEMBER(sluice_flow4, address),
                            MEMBER(sluice_flow4, client_port),
                            MEMBER(sluice_flow4, port),
                            MEMBER(sluice_flow4, way_checked),
                            MEMBER(sluice_flow6, source),
                            MEMBER(sluice_flow6, tuple),
                            MEMBER(sluice_flow6, client_port),
                            MEMBER(sluice_flow6, port),
                            MEMBER(sluice_flow6, client),
                            MEMBER(sluice_flow6, address),
                            MEMBER(sluice_shares, half_open6),
                            MEMBER(sluice_owned_key, ifindex),
                            MEMBER(sluice_owned_key, vlan),
                            MEMBER(sluice_owned_key, family),
                            MEMBER(sluice_counters, otherwise),
                            MEMBER(sluice_counters, returned),
                            MEMBER(sluice_counters, flows),
                            MEMBER(sluice_count, bytes),
                            MEMBER(sluice_service_reason_key, reason),
                            MEMBER(sluice_service_reason_key, backend)};
  const std::unique_ptr<btf, decltype(&btf__free)> parsed(btf__parse(SLUICE_LAYOUT_OBJECT, nullptr), btf__free);
  const btf* const types = parsed.get();
  ASSERT_NE(types, nullptr);
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
              {"keys", 4, sizeof(sluice_key_entry), true},
              {"keys6", 4, sizeof(sluice_key6), true},
              {"services", 4, sizeof(sluice_service), true},
              {"slots", 4, sizeof(uint16_t), true},
              {"backends", 4, sizeof(sluice_backend), true},
              {"egress", 4, sizeof(sluice_egress), true},
              {"peers", 4, sizeof(sluice_peer), true},
              {"proofs", 4, sizeof(sluice_proof), true},
              {"flows4", 4, sizeof(sluice_flow4), true},
              {"half_open4", 4, sizeof(sluice_flow4), true},
              {"flows6", 4, sizeof(sluice_flow6), true},
              {"half_open6", 4, sizeof(sluice_flow6), true},
              {"shares", 4, sizeof(sluice_shares), true},
              {"owned_addresses", sizeof(sluice_owned_key), sizeof(sluice_owned), false},
              {"sources4", sizeof(sluice_sources4_key), 4, false},
              {"sources6", sizeof(sluice_sources6_key), 4, false},
              {"backend_counters", 4, sizeof(sluice_counters), false},
              {"reasons", 4, sizeof(sluice_count), false},
              {"service_reasons", sizeof(sluice_service_reason_key), sizeof(sluice_count), false}};
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
  for (const auto& [program, instructions] : plane.verified_instructions()) {
    RecordProperty(program, std::to_string(instructions));
    EXPECT_GT(instructions, 0U) << program;
    EXPECT_LT(instructions, 200'000U) << program << ": of a million: verification time and room for more";
  }
}

}  // namespace
}  // namespace sluice::packets
