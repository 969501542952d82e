#include "operator/planner/tunnel_keys.h"

#include <algorithm>

namespace sluice::planner {
namespace {

using Minutes = std::chrono::minutes;

// For packets that were sent by the former key and are under way still.
constexpr Minutes kLastPackets{1};

Minutes made_at(const state::TunnelKey& key) {
  return Minutes(key.id);
}

state::TunnelKey make_key(const TunnelInput& input) {
  const auto minute = std::chrono::floor<Minutes>(input.wall.time_since_epoch()).count();
  auto id = static_cast<uint32_t>(std::max<int64_t>(minute, 1));
  for (const state::TunnelKey& key : input.previous.keys) id = std::max(id, key.id + 1);
  return {id, input.random};
}

}  // namespace

TunnelPlan plan_tunnel(const TunnelInput& input) {
  TunnelPlan out;
  out.tunnel = {input.options.tunnel_port, input.previous.keys};
  std::vector<state::TunnelKey>& keys = out.tunnel.keys;
  if (keys.empty()) {
    keys.push_back(make_key(input));
    return out;
  }
  const Memory::Tunnel& memory = input.memory.tunnel;
  const bool remembered = memory.revision != 0;
  out.revision = remembered ? memory.revision : input.previous_revision;
  if (keys.size() == 1) {
    const Duration period = input.options.tunnel_key_rotation;
    if (period <= Duration::zero()) return out;
    const auto age = input.wall.time_since_epoch() - made_at(keys.front());
    if (age < period) {
      out.again_at = input.now + std::chrono::ceil<std::chrono::seconds>(period - age);
    } else {
      keys.push_back(make_key(input));
    }
    return out;
  }
  if (!input.everywhere(out.revision)) return out;
  if (keys[1].id > keys[0].id) {
    std::swap(keys[0], keys[1]);
    return out;
  }
  out.everywhere_since = remembered ? memory.everywhere_since.value_or(input.now) : input.now;
  if (input.now - *out.everywhere_since < kLastPackets) {
    out.again_at = *out.everywhere_since + kLastPackets;
  } else {
    keys.resize(1);
  }
  return out;
}

}  // namespace sluice::planner
