// Words that several answers have. For .cpp files of this room.
#pragma once

#include "node-agent/dataplane/dataplane.h"

namespace sluice::agent::inspect {

constexpr const char* text_of(dataplane::Forward way) {
  switch (way) {
    case dataplane::Forward::local:
      return "local";
    case dataplane::Forward::tunnel:
      return "tunnel";
    case dataplane::Forward::direct:
      return "direct";
    case dataplane::Forward::ipip:
      return "ipip";
    case dataplane::Forward::nat:
      break;
  }
  return "nat";
}

}  // namespace sluice::agent::inspect
