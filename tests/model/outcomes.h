// The plain outcomes. Internal to the model.
#pragma once

#include "tests/model/model.h"

namespace sluice::model {

Outcome passed(const Bytes& frame, const char* reason);
Outcome dropped(const char* reason);
// Whether it is one host's, so that it may be answered: RFC 1122, 3.2.2; RFC 4443, 2.4 e.
bool is_one_host(const net::IpAddress& address);

}  // namespace sluice::model
