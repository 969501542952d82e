// Where a flow's record stands in what is programmed. Pure.
#pragma once

#include <string>

#include "node-agent/program/programmer.h"

namespace sluice::agent::program {

struct FlowPlace {
  const std::string* service = nullptr;  // the id; nullptr: no service has the flow's address and port any more
  bool current = false;                  // the flow's slot in the table in force leads to the flow's backend
  bool left = false;                     // the flow's backend is in the choice no more
  const Record* record = nullptr;        // the backend's; nullptr: it has none any more
};

// By the addresses in the record where it has them, not by its indices: those are from when it was last touched. Only
// records that stay where they are and those of clients (SLUICE_FLOW_PIN, SLUICE_FLOW_AFFINITY) are at their `backend`.
// `image`: what the programmer has planned, made.
FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow4& flow);
FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow6& flow);

}  // namespace sluice::agent::program
