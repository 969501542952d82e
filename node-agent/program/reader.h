// Looking things up in an image the way the XDP program does. Pure; every index is checked, whatever stands in the
// image.
#pragma once

#include <cstdint>
#include <optional>

#include "node-agent/program/image.h"

namespace sluice::agent::program {

// The index that a key leads to, by the table in force.
std::optional<uint32_t> find_service(const ImageView& image, uint64_t key);

// What one slot of a table holds: an index into the service's records or SLUICE_NO_BACKEND. nullopt where it would lie
// outside of the arena.
std::optional<uint16_t> read_slot(const ImageView& image, uint64_t table, uint32_t plane, uint32_t slot);

}  // namespace sluice::agent::program
