// The YAML file of standalone mode as a value, and what is wrong with it. Pure: text in, value or mistakes out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "common/net/address.h"
#include "common/state/desired_state.h"

namespace sluice::agent::config {

// One thing that is wrong, where it stands, and the way out.
struct Mistake {
  int line = 1;       // from 1
  int column = 1;     // from 1
  std::string field;  // "loadBalancers[0].backends[1].weight"; empty: the file as a whole
  std::string message;
  // "lb.yaml:12:7: loadBalancers[0].backends[1].weight: must be 0..1000, is -3"
  [[nodiscard]] std::string text(std::string_view file) const;
  friend bool operator==(const Mistake&, const Mistake&) = default;
};

// automatic: native; where one driver has no native mode all that are automatic are generic, and a condition tells.
enum class InterfaceMode : uint8_t { unset, native, generic, automatic };

// A device name or a shell pattern ("en*").
struct Interface {
  std::string pattern;
  InterfaceMode mode = InterfaceMode::unset;  // unset: the command line's
  friend bool operator==(const Interface&, const Interface&) = default;
};

struct StandaloneConfig {
  std::vector<Interface> interfaces;  // empty: the command line's
  // One service for each port of each load balancer, id "NAME/PORTNAME", and for IPv6 "NAME/PORTNAME/IPv6", with the
  // addresses and backends of its family, in the file's order. Each backend is a group
  // of its own weight with one member; `joined`, `left` and `sizes` are not set.
  std::vector<state::Service> services;
};

// At least one mistake, in the order of their lines.
using Mistakes = std::vector<Mistake>;

tl::expected<StandaloneConfig, Mistakes> parse_standalone(std::string_view text);

}  // namespace sluice::agent::config
