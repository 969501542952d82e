#include "tests/model/flows.h"

#include "tests/model/packet.h"

namespace sluice::model {

void Flow::client_spoke(uint8_t flags) {
  reset = (flags & kRst) != 0;
  client_fin = client_fin || (flags & kFin) != 0;
}

void Flow::backend_spoke(uint8_t flags, uint32_t sequence) {
  replied = true;
  syn_unanswered = false;
  reset = (flags & kRst) != 0;
  backend_fin = backend_fin || (flags & kFin) != 0;
  if (half_open && flags != 0 && !reset) awaited = sequence + ((flags & kSyn) != 0 ? 1 : 0);
}

bool Flow::proved_by(uint8_t protocol, uint8_t flags, uint32_t acknowledged) const {
  constexpr uint32_t kWindow = 0x10000;
  if (!replied || reset) return false;
  if (protocol != kTcp) return true;
  return (flags & (kAck | kSyn | kRst)) == kAck && acknowledged - awaited < kWindow;
}

}  // namespace sluice::model
