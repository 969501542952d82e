#include "node-agent/program/flow_place.h"

#include "node-agent/program/reader.h"

namespace sluice::agent::program {

FlowPlace place_of(const Programmer& programmer, const ImageView& image, const sluice_flow_key& key,
                   const sluice_flow& flow) {
  FlowPlace place;
  const auto index = programmer.keys().find(sluice_key_ipv4(flow.address, flow.port, key.protocol));
  place.service = index ? programmer.id_at(*index) : nullptr;
  if (place.service == nullptr) {
    return place;
  }
  const Programmed& service = programmer.programmed().at(*place.service);
  if (service.table == 0) {
    return place;
  }
  const uint32_t slot = flow.hash & ((1U << SLUICE_TABLE_LOG2(service.table)) - 1);
  const auto record = read_slot(image, service.table, 0, slot);
  if (record && *record < service.records.size()) {
    const RecordIdentity& identity = service.records[*record].identity;
    place.current = identity.address == key.backend && identity.port == key.backend_port;
  }
  return place;
}

}  // namespace sluice::agent::program
