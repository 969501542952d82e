// `sluice-operator --cleanup`: what `helm uninstall` runs before it deletes anything.
#pragma once

#include <memory>

#include "operator/controller/options.h"
#include "operator/kube/transport.h"

namespace sluice::controller {

// Takes the Lease, so that no replica leads meanwhile; lets every agent remove all of Sluice from its node, with an
// epoch above all others; takes Sluice's finalizers, addresses and conditions off Services; writes into the statuses of
// LoadBalancers and AddressPools that nothing of them is kept true any more; deletes the LoadBalancerNodes. The
// AddressClaims stay: an install that follows gives everybody the same address again. Goes as far as it can, logs what
// it could not do, and fails then. A node that does not answer is a failure only where its agent has been reached
// before (it has a LoadBalancerNode, which stays for the next attempt) and where it is Ready.
Status clean_up(const Options& options, const std::shared_ptr<kube::Transport>& transport);

}  // namespace sluice::controller
