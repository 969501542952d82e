// Sets of allowed sources: which ids stand for which prefixes. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/net/address.h"

namespace sluice::agent::program {

// Who is allowed to send to some services, all of one family. Without prefixes: nobody.
struct SourceSet {
  uint32_t id = 0;  // sluice_service.settings; never 0
  net::Family family = net::Family::ipv4;
  std::vector<net::Prefix> prefixes;  // ascending, each once
  friend bool operator==(const SourceSet&, const SourceSet&) = default;
};

// Services that allow the same share a set. An id is given again only when all others have been, and never while it is
// in use or a reader may know it.
class SourceSets {
 public:
  // A set that services name already; nobody knows what is in it, so that no other need finds it.
  void adopt(uint32_t id);
  // The set for these prefixes; `prefixes` in any order.
  uint32_t id_for(net::Family family, std::vector<net::Prefix> prefixes);
  // A service names the set (0: none) from now on, or does so no more.
  void use(uint32_t id);
  void let_go(uint32_t id);

  struct Changes {
    std::vector<SourceSet> added;   // in use now for the first time
    std::vector<uint32_t> removed;  // not in use any more
  };
  // Since the last call. What has been asked for and not come into use is forgotten.
  Changes take_changes();
  void grace_over() { retired_.clear(); }
  [[nodiscard]] bool awaits_grace() const { return !retired_.empty(); }
  [[nodiscard]] std::vector<uint32_t> in_use() const;
  // Of those, the ones that are known to the last prefix: not those that were adopted.
  [[nodiscard]] std::vector<SourceSet> known_in_use() const;

 private:
  using Need = std::pair<net::Family, std::vector<net::Prefix>>;
  struct Set {
    uint32_t uses = 0;
    bool known = false;        // added before
    std::optional<Need> need;  // nullopt: not known
  };
  std::map<uint32_t, Set> sets_;
  std::map<Need, uint32_t> ids_;
  std::set<uint32_t> retired_;
  std::set<uint32_t> touched_;
  uint32_t next_ = 1;
};

}  // namespace sluice::agent::program
