#include "node-agent/inspect/view.h"

namespace sluice::agent::inspect {
namespace {

double age(tunnel::Clock::time_point now, tunnel::Clock::time_point then) {
  return std::chrono::duration<double>(now - then).count();
}

}  // namespace

Json tunnels(const View& view) {
  Json list = Json::array();
  for (const auto& tunnel : view.tunnels) {
    Json one = {{"node", tunnel.node},
                {"address", tunnel.address.to_string()},
                {"port", tunnel.port},
                {"proved", tunnel.usable},
                {"key", tunnel.key},
                {"mtu", tunnel.mtu},
                {"fits", {{"ipv4", tunnel.fits4}, {"ipv6", tunnel.fits6}}}};
    if (tunnel.since) one["sinceSeconds"] = age(view.now, *tunnel.since);
    if (tunnel.heard) one["lastProofSeconds"] = age(view.now, *tunnel.heard);
    if (!tunnel.why.empty()) one["why"] = tunnel.why;
    list.push_back(std::move(one));
  }
  return {{"node", view.node}, {"tunnels", std::move(list)}};
}

}  // namespace sluice::agent::inspect
