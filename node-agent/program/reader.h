// Looking things up in an image the way the XDP program does. Pure; every index is checked, whatever stands in the
// image.
#pragma once

#include <cstdint>
#include <optional>

#include "node-agent/program/image.h"
#include "node-agent/program/key_table.h"
#include "node-agent/program/keys.h"

namespace sluice::agent::program {

// What a word leads to, by the table in force; of IPv6 whatever key has that print.
std::optional<KeyValue> find_word(const ImageView& image, uint64_t word);
// What a key leads to; its whole is compared.
std::optional<KeyValue> find_key(const ImageView& image, const WholeKey& key);
// The key that a word in the table stands for, for people.
std::string word_text(const ImageView& image, uint64_t word);

// What one slot of a table holds: an index into the service's records or SLUICE_NO_BACKEND. nullopt where it would lie
// outside of the arena.
std::optional<uint16_t> read_slot(const ImageView& image, uint64_t table, uint32_t plane, uint32_t slot);

}  // namespace sluice::agent::program
