// What it takes to bring one service from what stands in the maps to what is desired. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/program/model.h"

namespace sluice::agent::program {

// Gives the next-hop word for a backend whose record has had `current` so far, and may take an egress element.
using NextHopWord = std::function<uint64_t(const ProjectedBackend& backend, uint64_t current)>;

struct ServiceChange {
  Programmed next;                        // as the service will stand
  std::optional<Programmed> before;       // as it stands; nullopt: not at all
  std::vector<uint16_t> new_records;      // of next.records: to be written whole
  std::vector<uint16_t> changed_records;  // and those of which single words change
  std::vector<uint64_t> slots;            // contents of next.slots from its start; empty: the slots that there are stay
  const char* exhausted = nullptr;        // what ran out, with nothing taken: "slots", "backends", "services"

  [[nodiscard]] bool switches() const { return !before || next.table != before->table; }
};

// Takes what the change needs from the arenas. A backend keeps its record's index within the service while it has one,
// and a table whose slots would be the same stays where it is. `sources`: the set of allowed sources.
ServiceChange plan_service(const Projection& projection, uint32_t sources, bool tunnels, const Programmed* before,
                           const ImageView& image, Arenas& arenas, const NextHopWord& next_hop);

// Which of a service's records tunnels may name, ascending.
std::vector<std::pair<uint64_t, uint32_t>> backend_keys_of(const Programmed& service);

// Gives back what plan_service() took: the change is not going to be made.
void give_up(const ServiceChange& change, Arenas& arenas);

// Appends the stores: records and slots, then the one word that switches. Keys are not written here: nothing may lead
// to the service yet. What is left is retired.
void make(ServiceChange& change, Arenas& arenas, WriteList& writes);

// Appends the stores of next-hop words and of peers that have changed in those records in use that `concerns` picks;
// true where there were any. `changed` sees each record before and after.
bool refresh_records(Programmed& service, const std::function<bool(const Record&)>& concerns,
                     const std::function<Record(const Record&)>& now, WriteList& writes,
                     const std::function<void(const Record& before, const Record& after)>& changed);

// Retires what a service had that no key leads to any more. Nothing is stored: a reader that is still on its way finds
// it whole.
void remove(const Programmed& service, Arenas& arenas);

}  // namespace sluice::agent::program
