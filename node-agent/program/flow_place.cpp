#include "node-agent/program/flow_place.h"

#include <algorithm>

#include "node-agent/program/reader.h"

namespace sluice::agent::program {
namespace {

// A flow of either family.
struct Flow {
  const sluice_flow_head& head;
  uint64_t tuple;
  net::IpAddress backend;
  net::IpAddress client;
  WholeKey key;  // the service's
  uint16_t client_port;
};

Flow flow_of(const sluice_flow4& flow) {
  return {flow.head,
          flow.tuple,
          net::IpAddress::from_ipv4(flow.backend),
          net::IpAddress::from_ipv4(flow.client),
          {net::IpAddress::from_ipv4(flow.address), flow.port, SLUICE_FLOW_PROTOCOL(flow.tuple)},
          flow.client_port};
}

Flow flow_of(const sluice_flow6& flow) {
  return {flow.head,
          flow.tuple,
          *from_element(flow.backend, net::Family::ipv6),
          *from_element(flow.client, net::Family::ipv6),
          {*from_element(flow.address, net::Family::ipv6), flow.port, SLUICE_FLOW_PROTOCOL(flow.tuple)},
          flow.client_port};
}

// As the XDP program chooses the slot.
uint64_t slot_hash(const Flow& flow, bool by_client, const sluice_config& config) {
  const auto& key = config.flow_hash_key;
  const uint16_t client_port = by_client ? 0 : flow.client_port;
  const WholeKey named = by_client ? WholeKey{flow.key.address, 0, 0} : flow.key;
  if (flow.client.is_ipv4()) {
    return sluice_flow_hash(flow.client.ipv4(), named.address.ipv4(), client_port, named.port, named.protocol, key[0],
                            key[1]);
  }
  const sluice_address client = to_element(flow.client);
  return sluice_flow_hash6(client.words[0], client.words[1], named.word(), client_port, key[0], key[1]);
}

// The flow's backend among the service's records in use.
const Record* record_of(const Programmed& service, const Flow& flow) {
  const uint8_t kind = SLUICE_FLOW_KIND(flow.tuple);
  if (kind == SLUICE_FLOW_PIN || kind == SLUICE_FLOW_AFFINITY) {
    const uint32_t first = service.backends ? service.backends->first : UINT32_MAX;
    const bool its_own = flow.head.backend >= first && flow.head.backend - first < service.records.size();
    const Record* record = its_own ? &service.records[flow.head.backend - first] : nullptr;
    return record != nullptr && record->state == Record::State::used ? record : nullptr;
  }
  const uint16_t port = SLUICE_FLOW_BACKEND_PORT(flow.tuple);
  const auto found = std::find_if(service.records.begin(), service.records.end(), [&](const Record& record) {
    return record.state == Record::State::used && record.identity.address == flow.backend &&
           record.identity.port == port;
  });
  return found == service.records.end() ? nullptr : &*found;
}

FlowPlace place(const Programmer& programmer, const ImageView& image, const Flow& flow) {
  FlowPlace place;
  const Programmed* service = programmer.service_of(flow.key);
  if (service == nullptr) {
    return place;
  }
  place.service = programmer.id_at(service->index);
  const Record* record = record_of(*service, flow);
  place.record = record;
  place.left = record == nullptr || (record->flags.flags & SLUICE_BACKEND_LEFT) != 0;
  if (service->table == 0 || record == nullptr) {
    return place;
  }
  const bool by_client = (SLUICE_SETTINGS_FLAGS(service->settings) & SLUICE_SERVICE_AFFINITY) != 0;
  const auto slot = static_cast<uint32_t>(slot_hash(flow, by_client, *image.config)) &
                    ((1U << SLUICE_TABLE_LOG2(service->table)) - 1);
  const auto index = read_slot(image, service->table, 0, slot);
  place.current =
      index && *index < service->records.size() && service->records[*index].identity.same_backend(record->identity);
  return place;
}

}  // namespace

FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow4& flow) {
  return place(programmer, image, flow_of(flow));
}

FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow6& flow) {
  return place(programmer, image, flow_of(flow));
}

}  // namespace sluice::agent::program
