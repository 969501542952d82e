// From nothing to 10,000 services, after a restart, for one change, and for a changed way.
#include <benchmark/benchmark.h>

#include <iterator>
#include <memory>

#include "common/maglev/service_table.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::program {
namespace {

constexpr uint32_t kBackends = 15;

Sizes sizes() {
  Sizes sizes;
  sizes.services = 16384;
  sizes.backends = 1U << 18;
  sizes.slots = 1U << 24;
  return sizes;
}

net::IpAddress address(uint32_t base, uint32_t n) {
  return net::IpAddress::from_ipv4(__builtin_bswap32(base + n));
}

struct Scene {
  state::DesiredState desired;
  Ways ways;
};

Scene make_scene(uint32_t services) {
  Scene scene;
  scene.ways.interfaces[2] = {{2, 0, 0, 0, 0, 1}, 1500, 0, 0, false};
  scene.desired.flow_hash_key = {1, 2};
  for (uint32_t s = 0; s < services; ++s) {
    state::Service service;
    service.id = "Service/default/web-" + std::to_string(s) + "/http";
    service.addresses = {address(0x0a000000, s)};
    service.port = 80;
    service.groups = {{"all", 1}};
    service.sizes = {{0, 10}};
    for (uint32_t b = 0; b < kBackends; ++b) {
      state::Backend backend;
      backend.address = address(0x0b000000, s * kBackends + b);
      backend.port = 8080;
      backend.node = "node" + std::to_string(b % 5);
      service.backends.push_back(backend);
      scene.ways.next_hops[backend.address] = {false, 2, {2, 0, 0, 0, 1, 1}, address(0x0c000001, 0)};
    }
    scene.desired.services[service.id] = service;
  }
  return scene;
}

void make_stores(const Plan& plan, Image& image) {
  for (const Write& write : plan.writes.writes()) {
    apply(write, plan.writes.values(write), image.data(write.map));
  }
}

void from_nothing(benchmark::State& state) {
  const Scene scene = make_scene(static_cast<uint32_t>(state.range(0)));
  for ([[maybe_unused]] auto _ : state) {
    state.PauseTiming();
    Image image(sizes());
    state.ResumeTiming();
    auto programmer = std::make_unique<Programmer>(sizes(), NatPorts{});
    auto plan = std::make_unique<Plan>(programmer->plan(image.view(), scene.desired, "node0", scene.ways));
    make_stores(*plan, image);
    state.PauseTiming();
    if (!plan->failures.empty()) {
      state.SkipWithError(plan->failures.front().message.c_str());
    }
    state.counters["elements"] = static_cast<double>(plan->writes.elements());
    state.counters["longest_probe"] = programmer->keys().longest_probe();
    programmer.reset();
    plan.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(from_nothing)->Arg(100)->Arg(10000)->Unit(benchmark::kMillisecond);

struct Programmed10k {
  Scene scene = make_scene(10000);
  Image image{sizes()};
  Programmer programmer{sizes(), {}};
  Programmed10k() { make_stores(programmer.plan(image.view(), scene.desired, "node0", scene.ways), image); }
};

void after_restart(benchmark::State& state) {
  Programmed10k all;
  for ([[maybe_unused]] auto _ : state) {
    Programmer programmer = Programmer::decode(sizes(), {}, all.image.view());
    const Plan plan = programmer.plan(all.image.view(), all.scene.desired, "node0", all.scene.ways);
    if (!plan.writes.empty()) {
      state.SkipWithError("a restart has written");
    }
  }
}
BENCHMARK(after_restart)->Unit(benchmark::kMillisecond);

void decode_only(benchmark::State& state) {
  Programmed10k all;
  for ([[maybe_unused]] auto _ : state) {
    benchmark::DoNotOptimize(Programmer::decode(sizes(), {}, all.image.view()));
  }
}
BENCHMARK(decode_only)->Unit(benchmark::kMillisecond);

// The part of from_nothing that computes the services' tables.
void tables_alone(benchmark::State& state) {
  const Scene scene = make_scene(10000);
  for ([[maybe_unused]] auto _ : state) {
    for (const auto& [id, service] : scene.desired.services) {
      benchmark::DoNotOptimize(maglev::build_service_table(service));
    }
  }
}
BENCHMARK(tables_alone)->Unit(benchmark::kMillisecond);

// 0: whoever plans has to find out what differs; 1: it is told.
void one_backend_leaves(benchmark::State& state) {
  Programmed10k all;
  auto& service = all.scene.desired.services.begin()->second;
  const auto backend = service.backends.back();
  const Changes changes{{service.id}, {}};
  const Changes* told = state.range(0) == 1 ? &changes : nullptr;
  bool there = true;
  for ([[maybe_unused]] auto _ : state) {
    there ? service.backends.pop_back() : service.backends.push_back(backend);
    there = !there;
    const Plan plan = all.programmer.plan(all.image.view(), all.scene.desired, "node0", all.scene.ways, told);
    make_stores(plan, all.image);
    all.programmer.grace_over();
    if (!all.programmer.check(all.image.view(), &plan.touched).empty() || plan.writes.empty()) {
      state.SkipWithError("differs");
    }
  }
}
BENCHMARK(one_backend_leaves)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void one_way_changes(benchmark::State& state) {
  Programmed10k all;
  auto& [address, way] = *std::next(all.scene.ways.next_hops.begin());
  const Changes changes{{}, {address}};
  const Changes* told = state.range(0) == 1 ? &changes : nullptr;
  for ([[maybe_unused]] auto _ : state) {
    ++way.mac[5];
    const Plan plan = all.programmer.plan_ways(all.image.view(), all.scene.ways, told);
    make_stores(plan, all.image);
    if (plan.writes.empty()) {
      state.SkipWithError("nothing was written");
    }
  }
}
BENCHMARK(one_way_changes)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void check_all(benchmark::State& state) {
  Programmed10k all;
  for ([[maybe_unused]] auto _ : state) {
    if (!all.programmer.check(all.image.view(), nullptr).empty()) {
      state.SkipWithError("differs");
    }
  }
}
BENCHMARK(check_all)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice::agent::program

BENCHMARK_MAIN();
