// Scenes at random, and how they move on.
#pragma once

#include "tests/model/make.h"
#include "tests/model/scene.h"

namespace sluice::model {

// Where the scenes are set: what stands in the kernel.
struct Site {
  uint32_t near = 0, other = 0;  // interfaces; packets come in by the first
  Mac near_mac{}, other_mac{};
  bool forwarding = false;  // with the routes of routes_of()
};
Routes routes_of(const Site& site);

// What a test is about.
struct Theme {
  std::string name;
  bool v6 = false;
  std::vector<Kind> kinds;    // of backends
  uint16_t nat_ports = 1024;  // how many there are
  unsigned mutated = 30;      // packets of a hundred
};

class SceneMaker {
 public:
  SceneMaker(const Theme& theme, const Site& site, Random& random) : theme_(theme), site_(site), random_(random) {}

  Scene begin();
  // Backends come and go, weights change, a service is opened to other clients.
  void move_on(Scene& scene);

  // Addresses that packets come from and go to, services' and clients' among them, and such as are nobody's.
  static std::vector<net::IpAddress> addresses(const Scene& scene, bool v6);
  // A client's.
  net::IpAddress client();

 private:
  [[nodiscard]] net::IpAddress number(const char* v4, const char* v6, uint64_t n) const;
  state::Service some_service(size_t number);
  void fill(state::Service& service, size_t number);
  void add_ways(Scene& scene);

  const Theme& theme_;
  const Site& site_;
  Random& random_;
};

}  // namespace sluice::model
