// The operator's metrics as text. Pure.
#pragma once

#include <map>
#include <string>

#include "operator/controller/writer.h"
#include "operator/kube/events.h"
#include "operator/kube/reflector.h"
#include "operator/publish/publisher.h"

namespace sluice::controller {

struct Figures {
  bool leading = false;
  state::Epoch epoch = 0;  // of the last term this process led
  state::Revision revision = 0;
  size_t services = 0;   // in the desired state
  size_t addresses = 0;  // announced
  uint64_t rounds = 0;
  double round_seconds = 0;
  publish::Progress agents;  // not shown unless leading
  std::map<std::string, kube::Reflector::Stats> watches;
  std::map<std::string, Writer::Outcomes> writes;
  kube::EventRecorder::Stats events;
};

std::string expose(const Figures& figures);

}  // namespace sluice::controller
