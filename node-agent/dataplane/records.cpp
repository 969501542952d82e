#include "node-agent/dataplane/records.h"

namespace sluice::agent::dataplane {
namespace {

Forward way_of(uint8_t forwarding) {
  switch (forwarding) {
    case SLUICE_FORWARD_LOCAL:
      return Forward::local;
    case SLUICE_FORWARD_TUNNEL:
      return Forward::tunnel;
    case SLUICE_FORWARD_DIRECT:
      return Forward::direct;
    case SLUICE_FORWARD_IPIP:
      return Forward::ipip;
    default:
      return Forward::nat;
  }
}

}  // namespace

std::vector<BackendRecord> records_of(const program::Programmer& programmer) {
  std::vector<BackendRecord> records;
  for (const auto& [id, service] : programmer.programmed()) {
    for (const program::Record& record : service.records) {
      if (record.state != program::Record::State::used) {
        continue;
      }
      records.push_back({id, record.identity.address, __builtin_bswap16(record.identity.port),
                         way_of(record.identity.forwarding), (record.flags.flags & SLUICE_BACKEND_STRICT) != 0,
                         (record.flags.flags & SLUICE_BACKEND_LEFT) != 0});
    }
  }
  return records;
}

}  // namespace sluice::agent::dataplane
