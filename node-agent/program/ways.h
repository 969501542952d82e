// The ways from this node, under the names that they have here.
#pragma once

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/network.h"

namespace sluice::agent::program {

using dataplane::Interface;
using dataplane::Peer;
using Ways = dataplane::Network;

}  // namespace sluice::agent::program
