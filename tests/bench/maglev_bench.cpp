// How long tables take to build: ARG 0 candidates, ARG 1 log2 of the slots.
#include <benchmark/benchmark.h>

#include <vector>

#include "common/maglev/maglev.h"
#include "common/maglev/service_table.h"

namespace sluice::maglev {
namespace {

std::vector<Candidate> candidates(size_t count, size_t heavy) {
  std::vector<Candidate> result(count);
  for (size_t i = 0; i < count; ++i) result[i] = {mix(i), i < heavy ? 900U : 100U};
  return result;
}

void equal_weights(benchmark::State& state) {
  const auto input = candidates(static_cast<size_t>(state.range(0)), 0);
  while (state.KeepRunning()) benchmark::DoNotOptimize(build(input, static_cast<uint8_t>(state.range(1))));
}

void two_weights(benchmark::State& state) {
  const auto count = static_cast<size_t>(state.range(0));
  const auto input = candidates(count, count / 2);
  while (state.KeepRunning()) benchmark::DoNotOptimize(build(input, static_cast<uint8_t>(state.range(1))));
}

// A whole service in the middle of a rollout: `ARG 0` endpoints, of which 16 have been replaced one after another.
void service_in_a_rollout(benchmark::State& state) {
  state::Service service;
  service.groups = {{"a", 1}};
  service.sizes = {{0, static_cast<uint8_t>(state.range(1))}};
  const auto count = static_cast<uint32_t>(state.range(0));
  for (uint32_t i = 0; i < count + 16; ++i) {
    state::Backend backend;
    backend.address = net::IpAddress::from_ipv4(i + 1);
    backend.port = 80;
    if (i < 16) backend.left = 2 * i + 2;
    if (i >= count) backend.joined = 2 * (i - count) + 1;
    service.backends.push_back(backend);
  }
  while (state.KeepRunning()) benchmark::DoNotOptimize(build_service_table(service));
}

BENCHMARK(equal_weights)
    ->Args({3, 10})
    ->Args({100, 14})
    ->Args({400, 16})
    ->Args({8192, 19})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(two_weights)
    ->Args({3, 10})
    ->Args({100, 14})
    ->Args({400, 16})
    ->Args({8192, 19})
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(service_in_a_rollout)->Args({3, 10})->Args({100, 13})->Args({250, 14})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice::maglev

BENCHMARK_MAIN();
