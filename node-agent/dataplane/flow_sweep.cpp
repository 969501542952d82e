#include "node-agent/dataplane/flow_sweep.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <set>

#include "bpf/sluice.h"
#include "node-agent/program/flow_place.h"

namespace sluice::agent::dataplane {
namespace {

constexpr __u32 kBatch = 16384;  // flows read at once: some 1.3 MB

class Sweep {
 public:
  Sweep(const Maps& maps, const program::Programmer& programmer, const IdleTimes& idle, uint64_t now)
      : fd_(maps.fd("flows")), image_(maps.view()), programmer_(programmer), idle_(idle), now_(now) {}

  void look_at(const sluice_flow_key& key, const sluice_flow& flow) {
    if (expired(key, flow) && remove(key)) {
      ++outcome_.expired;
      return;
    }
    ++outcome_.live;
    const auto place = program::place_of(programmer_, image_, key, flow);
    if (place.service == nullptr) {
      return;
    }
    ++outcome_.live_by_service[*place.service];
    if (!place.current && !SLUICE_FLOW_CLOSED(flow.state)) {
      old_.insert(*place.service);
    }
  }

  SweepOutcome finish() {
    outcome_.services_with_old_flows.assign(old_.begin(), old_.end());
    return std::move(outcome_);
  }

 private:
  [[nodiscard]] bool expired(const sluice_flow_key& key, const sluice_flow& flow) const {
    const auto idle = std::chrono::nanoseconds(idle_time(idle_, key.protocol, flow.state)).count();
    // A flow that was touched since `now` was taken is from the future, and alive.
    return flow.last_seen < now_ && now_ - flow.last_seen > static_cast<uint64_t>(idle);
  }

  // False where the flow has come alive in the meantime.
  bool remove(const sluice_flow_key& key) const {
    sluice_flow flow{};
    if (bpf_map_lookup_elem(fd_, &key, &flow) != 0) {
      return true;
    }
    return expired(key, flow) && bpf_map_delete_elem(fd_, &key) == 0;
  }

  int fd_;
  program::ImageView image_;
  const program::Programmer& programmer_;
  const IdleTimes& idle_;
  uint64_t now_;
  SweepOutcome outcome_;
  std::set<std::string> old_;
};

}  // namespace

std::chrono::seconds idle_time(const IdleTimes& idle, uint8_t protocol, uint8_t state) {
  const bool established = (state & SLUICE_FLOW_ESTABLISHED) != 0;
  if (protocol == static_cast<uint8_t>(state::Protocol::udp)) {
    return established ? idle.udp_established : idle.udp_new;
  }
  if (SLUICE_FLOW_CLOSED(state)) {
    return (state & SLUICE_FLOW_BACKEND_FIRST) != 0 ? idle.tcp_closed_by_backend : idle.tcp_closed;
  }
  return established ? idle.tcp_established : idle.tcp_new;
}

Result<SweepOutcome> sweep_flows(const Maps& maps, const program::Programmer& programmer, const IdleTimes& idle,
                                 uint64_t now) {
  Sweep sweep(maps, programmer, idle, now);
  std::vector<sluice_flow_key> keys(kBatch);
  std::vector<sluice_flow> flows(kBatch);
  __u32 position = 0;
  bool first = true;
  for (bool last = false; !last; first = false) {
    __u32 count = kBatch;
    if (bpf_map_lookup_batch(maps.fd("flows"), first ? nullptr : &position, &position, keys.data(), flows.data(),
                             &count, nullptr) != 0) {
      if (errno != ENOENT) {
        return fail_errno(errno, "read map", "flows");
      }
      last = true;
    }
    for (__u32 i = 0; i < count; ++i) {
      sweep.look_at(keys[i], flows[i]);
    }
  }
  return sweep.finish();
}

}  // namespace sluice::agent::dataplane
