#include "common/telemetry/metrics.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace sluice::telemetry {

std::shared_ptr<prometheus::Registry> make_registry() {
  return std::make_shared<prometheus::Registry>();
}

std::string render(const prometheus::Registry& registry) {
  return prometheus::TextSerializer{}.Serialize(registry.Collect());
}

}  // namespace sluice::telemetry
