// From the agent's answers (node-agent/inspect/view.h) to what people read. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace sluice::agent::ctl {

using Json = nlohmann::json;

// Whether a service's id is meant: the id itself, or some of its parts in a row: "web" and "shop/web" mean
// "Service/shop/web/http".
bool is_meant(const std::string& id, const std::string& typed);
// An answer with those of its `services` alone that are meant; all where nothing was typed.
Json only(Json answer, const std::string& typed);

std::string backends_text(const Json& answer, bool wide);
std::string tunnels_text(const Json& answer);
std::string drains_text(const Json& answer);

// Something is not as it should be: a service that is not programmed, a backend without a way; a tunnel that is not
// proved.
bool backends_lack(const Json& answer);
bool tunnels_lack(const Json& answer);
// Flows that are left, and the backends that have them.
struct Left {
  uint64_t flows = 0;
  uint64_t backends = 0;
};
Left left_of(const Json& answer);
// Where the rest of the flows are counted, for stderr; empty: nowhere.
std::string elsewhere(const Json& answer);

}  // namespace sluice::agent::ctl
