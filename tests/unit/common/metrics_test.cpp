#include "common/telemetry/metrics.h"

#include <gtest/gtest.h>
#include <prometheus/counter.h>
#include <prometheus/registry.h>

namespace sluice::telemetry {
namespace {

TEST(Metrics, AreRenderedAsPrometheusText) {
  const auto registry = make_registry();
  EXPECT_EQ(render(*registry), "");
  auto& family = prometheus::BuildCounter().Name("sluice_things_total").Help("Things.").Register(*registry);
  family.Add({{"kind", "a \"b\""}}).Increment(3);
  EXPECT_EQ(render(*registry),
            "# HELP sluice_things_total Things.\n"
            "# TYPE sluice_things_total counter\n"
            "sluice_things_total{kind=\"a \\\"b\\\"\"} 3\n");
}

}  // namespace
}  // namespace sluice::telemetry
