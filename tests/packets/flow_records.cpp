// Records of flows, as tests see them and as they lie in the tables.
#include <arpa/inet.h>

#include <algorithm>

#include "tests/packets/loaded.h"

namespace sluice::packets {

namespace program = agent::program;

namespace {

Address address_of(const sluice_address& element, bool ipv6) {
  if (!ipv6) return ntohl(element.ipv4);
  std::array<uint8_t, 16> bytes{};
  std::copy(std::begin(element.bytes), std::end(element.bytes), bytes.begin());
  return Address::of(bytes);
}

Flow shown(const sluice_flow_head& head, uint64_t tuple, bool half_open) {
  Flow flow;
  flow.backend.port = ntohs(SLUICE_FLOW_BACKEND_PORT(tuple));
  flow.source.port = ntohs(SLUICE_FLOW_SOURCE_PORT(tuple));
  flow.protocol = SLUICE_FLOW_PROTOCOL(tuple);
  flow.kind = SLUICE_FLOW_KIND(tuple);
  flow.state = static_cast<uint32_t>(head.control & 0xfffc);
  flow.acknowledgement = SLUICE_FLOW_ACK(head.control);
  flow.next_hop = head.next_hop;
  flow.service_index = head.service;
  flow.backend_index = head.backend;
  flow.seen = head.seen;
  flow.half_open = half_open;
  return flow;
}

template <typename Record>
Flow shown(const Record& record, bool half_open) {
  Flow flow = shown(record.head, record.tuple, half_open);
  if constexpr (sizeof(Record) == sizeof(sluice_flow6)) {
    flow.backend.address = address_of(record.backend, true);
    flow.source.address = address_of(record.source, true);
    flow.client.address = address_of(record.client, true);
    flow.service.address = address_of(record.address, true);
  } else {
    flow.backend.address = ntohl(record.backend);
    flow.source.address = ntohl(record.source);
    flow.client.address = ntohl(record.client);
    flow.service.address = ntohl(record.address);
  }
  flow.client.port = ntohs(record.client_port);
  flow.service.port = ntohs(record.port);
  flow.way_checked = record.way_checked;
  return flow;
}

template <typename Record>
Record record_of(const Flow& flow) {
  Record record{};
  record.head.seen = flow.seen;
  record.head.control = SLUICE_FLOW_CONTROL(SLUICE_FLOW_LIVE, flow.state, 1, flow.acknowledgement);
  record.head.next_hop = flow.next_hop;
  record.head.service = flow.service_index;
  record.head.backend = flow.backend_index;
  record.tuple = SLUICE_FLOW_TUPLE(htons(flow.backend.port), htons(flow.source.port), flow.protocol, flow.kind);
  if constexpr (sizeof(Record) == sizeof(sluice_flow6)) {
    record.backend = element(flow.backend.address);
    record.source = element(flow.source.address);
    record.client = element(flow.client.address);
    record.address = element(flow.service.address);
  } else {
    record.backend = htonl(flow.backend.address.last());
    record.source = htonl(flow.source.address.last());
    record.client = htonl(flow.client.address.last());
    record.address = htonl(flow.service.address.last());
  }
  record.client_port = htons(flow.client.port);
  record.port = htons(flow.service.port);
  return record;
}

}  // namespace

std::vector<Flow> Dataplane::flows() const {
  std::vector<Flow> all;
  for (const bool half_open : {false, true}) {
    const auto add = [&](uint32_t, const auto& record) { all.push_back(shown(record, half_open)); };
    loaded_->flows<sluice_flow4>(half_open).for_each(add);
    loaded_->flows<sluice_flow6>(half_open).for_each(add);
  }
  return all;
}

std::optional<Flow> Dataplane::flow(Endpoint backend, Endpoint source, uint8_t protocol, uint8_t kind) const {
  for (const Flow& flow : flows())
    if (flow.backend == backend && flow.source == source && flow.protocol == protocol && flow.kind == kind) return flow;
  return std::nullopt;
}

namespace {

template <typename Record>
void put(const Loaded& loaded, const Flow& flow) {
  const auto record = record_of<Record>(flow);
  for (const bool half_open : {false, true}) {
    auto table = loaded.flows<Record>(half_open);
    if (table.find(record) == nullptr) continue;
    table.for_each([&](uint32_t position, const Record& there) {
      if (shown(there, half_open).backend == flow.backend && shown(there, half_open).source == flow.source &&
          there.tuple == record.tuple)
        table.remove(position, there.head.control);
    });
  }
  if (loaded.flows<Record>(flow.half_open).insert(record) != program::StoredFlow::stored)
    throw std::runtime_error("no room for a record");
}

template <typename Record>
void forget(const Loaded& loaded) {
  for (const bool half_open : {false, true}) {
    auto table = loaded.flows<Record>(half_open);
    table.for_each([&](uint32_t position, const Record& there) { table.remove(position, there.head.control); });
  }
}

}  // namespace

void Dataplane::put_flow(const Flow& flow) {
  flow.client.address.ipv6() ? put<sluice_flow6>(*loaded_, flow) : put<sluice_flow4>(*loaded_, flow);
}

void Dataplane::forget_flows() {
  forget<sluice_flow4>(*loaded_);
  forget<sluice_flow6>(*loaded_);
}

void Dataplane::age(Flow flow, uint64_t seconds) {
  flow.seen = jiffies() - static_cast<uint32_t>(seconds * jiffies_per_second());
  put_flow(flow);
}

}  // namespace sluice::packets
