// What goes wrong with packets, by accident or on purpose.
#pragma once

#include "tests/model/make.h"

namespace sluice::model {

// Changes one thing about an IP packet. `addresses`: such as it may be made to come from or go to.
void mutate(Random& random, Bytes& frame, const std::vector<net::IpAddress>& addresses);

}  // namespace sluice::model
