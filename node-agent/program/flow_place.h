// Where a flow's record stands in what is programmed. Pure.
#pragma once

#include <string>

#include "node-agent/program/programmer.h"

namespace sluice::agent::program {

struct FlowPlace {
  const std::string* service = nullptr;  // the id; nullptr: no service has the flow's address and port any more
  bool current = false;                  // the flow's slot in the table in force leads to the flow's backend
};

// By the addresses in the record, not by its indices: those are from when it was last touched.
FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow_key& key,
                   const sluice_flow& flow);

}  // namespace sluice::agent::program
