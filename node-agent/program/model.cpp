#include "node-agent/program/model.h"

namespace sluice::agent::program {

uint64_t what_word(const Record& record, uint32_t service) {
  return SLUICE_BACKEND_WORD(record.identity.port, record.flags.peer, service, record.identity.forwarding,
                             record.flags.flags);
}

void Arenas::retire_slots(const std::optional<Range>& range) {
  if (range) {
    retired_slots_.push_back(*range);
  }
}

void Arenas::retire_backends(const std::optional<Range>& range) {
  if (range) {
    retired_backends_.push_back(*range);
  }
}

void Arenas::grace_over() {
  for (const Range& range : retired_slots_) {
    slots.release(range);
  }
  for (const Range& range : retired_backends_) {
    backends.release(range);
  }
  for (const uint32_t index : retired_services_) {
    services.release(Range{index, 0});
  }
  retired_slots_.clear();
  retired_backends_.clear();
  retired_services_.clear();
}

}  // namespace sluice::agent::program
