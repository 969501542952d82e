// What a round costs at the size upstream promises: 10,000 Services with 150,000 endpoints, 1,000 nodes.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "operator/planner/planner.h"
#include "operator/status/status.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

constexpr int kServices = 10'000;
constexpr int kEndpoints = 15;
constexpr int kNodes = 1'000;
constexpr int kHandMade = 1'000;  // Services without a selector, in a cluster that has no others

struct World {
  resources::ClusterState cluster;
  state::DesiredState state;
  planner::Agents agents;
  planner::Options options;
  planner::Memory memory;
  planner::Time now{std::chrono::hours(1)};
  planner::ResolveCache cache;

  void put(Json object) {
    const Status taken = cluster.upsert(std::make_shared<const Json>(std::move(object)));
    if (!taken) throw std::runtime_error(taken.error().message());
  }
  planner::Round decide() { return planner::decide({state, cluster, agents, options, memory, now, {}, {1, 2}}, cache); }
  void adopt(const planner::Round& round) {
    state = round.plan.next;
    memory = round.plan.memory;
    for (auto& [name, agent] : agents) agent.acked_revision = state.revision;
    for (const resources::AddressClaim& claim : round.addresses.writes.create) put(resources::claim_object(claim));
  }
};

std::string host(const char* net, int i) {
  return net + std::to_string(i / 65536) + "." + std::to_string(i / 256 % 256) + "." + std::to_string(i % 256);
}

// `by`: who made it.
Json slice(int service, int revision, const char* by = "endpointslice-controller.k8s.io") {
  Json endpoints = Json::array();
  for (int i = 0; i < kEndpoints; ++i) {
    const int pod = service * (kEndpoints + 1) + (i + revision) % (kEndpoints + 1);
    endpoints.push_back({{"addresses", {host("10.", 65536 + pod)}},
                         {"conditions", {{"ready", true}}},
                         {"nodeName", "node" + std::to_string(pod % kNodes)}});
  }
  const std::string name = "s" + std::to_string(service);
  return {{"kind", "EndpointSlice"},
          {"metadata",
           {{"namespace", "ns"},
            {"name", name + "-x"},
            {"labels", {{"kubernetes.io/service-name", name}, {"endpointslice.kubernetes.io/managed-by", by}}}}},
          {"addressType", "IPv4"},
          {"ports", {{{"name", "http"}, {"port", 8080}}}},
          {"endpoints", std::move(endpoints)}};
}

// Services with a selector, or without one and with slices that the controller does not vouch for.
std::unique_ptr<World> make_world(int services, bool hand_made) {
  auto w = std::make_unique<World>();
  w->options.cluster_id = "bench";
  w->put({{"kind", "AddressPool"}, {"metadata", {{"name", "p"}}}, {"spec", {{"addresses", {"11.0.0.0/8"}}}}});
  w->put({{"kind", "ServiceCIDR"}, {"metadata", {{"name", "k"}}}, {"spec", {{"cidrs", {"10.96.0.0/16"}}}}});
  for (int i = 0; i < kNodes; ++i) {
    const std::string name = "node" + std::to_string(i);
    w->put({{"kind", "Node"},
            {"metadata", {{"name", name}}},
            {"status",
             {{"addresses", {{{"type", "InternalIP"}, {"address", host("172.", 20 * 65536 + i)}}}},
              {"conditions", {{{"type", "Ready"}, {"status", "True"}}}}}}});
    planner::Agent agent;
    agent.connected = agent.seen = true;
    w->agents.emplace(name, agent);
  }
  for (int i = 0; i < services; ++i) {
    const std::string name = "s" + std::to_string(i);
    Json spec = {{"type", "LoadBalancer"},
                 {"loadBalancerClass", "sluice.io/xdp"},
                 {"ports", {{{"name", "http"}, {"port", 80}}}}};
    if (!hand_made) spec["selector"] = {{"app", name}};
    w->put({{"kind", "Service"},
            {"metadata", {{"namespace", "ns"}, {"name", name}, {"finalizers", {"sluice.io/cleanup"}}}},
            {"spec", std::move(spec)}});
    w->put(hand_made ? slice(i, 0, "by-hand") : slice(i, 0));
  }
  for (int i = 0; i < 3; ++i) w->adopt(w->decide());
  return w;
}

World& world() {
  static World& made = *make_world(kServices, false).release();
  return made;
}

void full_recompute(benchmark::State& bench) {
  World& w = world();
  for ([[maybe_unused]] auto _ : bench) {
    w.cache = {};
    benchmark::DoNotOptimize(w.decide());
  }
}

void nothing_changed(benchmark::State& bench) {
  World& w = world();
  for ([[maybe_unused]] auto _ : bench) benchmark::DoNotOptimize(w.decide());
}

void one_endpoint_changed(benchmark::State& bench) {
  World& w = world();
  int revision = 0;
  for ([[maybe_unused]] auto _ : bench) {
    bench.PauseTiming();
    w.put(slice(77, ++revision));
    bench.ResumeTiming();
    const planner::Round round = w.decide();
    if (!round.plan.changed) throw std::logic_error("nothing changed");
    bench.PauseTiming();
    w.adopt(round);
    bench.ResumeTiming();
  }
}

// Every service has a backend that left: each tenth Service rolls in each of the rounds before.
void with_history(benchmark::State& bench) {
  World& w = world();
  for (int round = 1; round <= 10; ++round) {
    for (int i = round - 1; i < kServices; i += 10) w.put(slice(i, round));
    w.adopt(w.decide());
  }
  for ([[maybe_unused]] auto _ : bench) {
    w.cache = {};
    benchmark::DoNotOptimize(w.decide());
  }
}

// What each round looks at again, as it is not the controller's word: everything that such endpoints may not be. The
// counter is what the cache holds of all that.
void hand_made_slices(benchmark::State& bench) {
  const auto w = make_world(kHandMade, true);
  w->cache = {};
  const size_t without = mallinfo2().uordblks;
  w->decide();
  bench.counters["cache_bytes"] = static_cast<double>(mallinfo2().uordblks - without);
  for ([[maybe_unused]] auto _ : bench) benchmark::DoNotOptimize(w->decide());
}

void statuses(benchmark::State& bench) {
  World& w = world();
  const planner::Round round = w.decide();
  for ([[maybe_unused]] auto _ : bench)
    benchmark::DoNotOptimize(status::status({w.cluster, round, w.agents, w.options, w.now, {}}));
}

BENCHMARK(full_recompute)->Unit(benchmark::kMillisecond);
BENCHMARK(nothing_changed)->Unit(benchmark::kMillisecond);
BENCHMARK(one_endpoint_changed)->Unit(benchmark::kMillisecond);
BENCHMARK(statuses)->Unit(benchmark::kMillisecond);
BENCHMARK(hand_made_slices)->Unit(benchmark::kMillisecond);
BENCHMARK(with_history)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice

BENCHMARK_MAIN();
