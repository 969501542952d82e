// The socket that probes leave by.
#pragma once

#include "common/result.h"
#include "node-agent/tunnel/probe_frame.h"

namespace sluice::agent::tunnel {

// Sends frames as they are, past the node's own filters, as the XDP program does. Opened when the first is sent. Needs
// CAP_NET_RAW. Used by one thread at a time.
class ProbeSender {
 public:
  ProbeSender() = default;
  ProbeSender(const ProbeSender&) = delete;
  ProbeSender& operator=(const ProbeSender&) = delete;
  ~ProbeSender();
  // An interface that is down, or too small for the frame, is no error: the probe is lost.
  Status send(const Frame& frame);

 private:
  int fd_ = -1;
};

}  // namespace sluice::agent::tunnel
