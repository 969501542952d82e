// What the scraper and the probes are given.
#include "node-agent/health/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node-agent/health/probes.h"
#include "tests/unit/agent/fixtures.h"

namespace sluice::agent::health {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Metrics, CountersOfReasonsServicesAndBackends) {
  const Metrics metrics("1.2.3", "abc", Metrics::Mode::cluster);
  Facts facts;
  facts.revision = 7;
  facts.unresolved[ip("10.0.0.9")] = "no route";
  facts.interfaces = {{"eth0", 2, dataplane::AttachMode::generic, "veth"}};
  dataplane::Counters counters;
  counters.reasons = {{"no_next_hop", "drop", "", 5, 500}, {"no_next_hop", "drop", "s/http", 4, 400}};
  counters.services = {{"s/http", 10, 1000, 3, 9, 900}};
  counters.backends = {{"s/http", ip("10.0.0.2"), 8080, 10, 1000, 3, 9, 900}};
  const std::string page = metrics.render(facts, counters);
  EXPECT_THAT(page, HasSubstr("sluice_agent_build_info{"));
  EXPECT_THAT(page, HasSubstr("# TYPE sluice_agent_packets_total counter"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_packets_total{reason=\"no_next_hop\",kind=\"drop\"} 5"));
  EXPECT_THAT(page,
              HasSubstr("sluice_agent_service_dropped_packets_total{service=\"s/http\",reason=\"no_next_hop\"} 4"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_service_packets_total{service=\"s/http\",direction=\"return\"} 9"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_backend_flows_total{service=\"s/http\",backend=\"10.0.0.2:8080\"} 3"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_programmed_revision 7"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_next_hops_unresolved 1"));
  EXPECT_THAT(page, HasSubstr("mode=\"Generic\""));
}

TEST(Metrics, WhatIsInUseAndOfHowMuch) {
  const Metrics metrics("1", "a", Metrics::Mode::cluster);
  Facts facts;
  facts.usage.flows_ipv4 = {7, 8, 900, 901};
  facts.usage.flows_ipv6 = {1, 2, 300, 301};
  facts.usage.tables = {{"services", 3, 16384}};
  facts.usage.shares = {{"s/http", false, 300, 400}};
  facts.usage.nat_ports = {{ip("10.0.0.1"), ip("10.1.0.7"), 8080, 6, 5000, 20000}};
  const std::string page = metrics.render(facts, {});
  for (const char* line : {
           "sluice_agent_flow_table_records{family=\"IPv4\",table=\"established\"} 7",
           "sluice_agent_flow_table_records{family=\"IPv6\",table=\"half_open\"} 2",
           "sluice_agent_flow_table_room{family=\"IPv4\",table=\"half_open\"} 901",
           "sluice_agent_flow_table_room{family=\"IPv6\",table=\"established\"} 300",
           "sluice_agent_flow_share_used_ratio{service=\"s/http\"} 0.75",
           "sluice_agent_table_used{table=\"services\"} 3",
           "sluice_agent_table_room{table=\"services\"} 16384",
           "sluice_agent_nat_source_ports_used_ratio{source=\"10.0.0.1\",backend=\"10.1.0.7:8080\",protocol=\"TCP\"} "
           "0.25",
       }) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(Metrics, TunnelsAndDrains) {
  const Metrics metrics("1", "a", Metrics::Mode::cluster);
  Facts facts;
  facts.tunnels.resize(2);
  facts.tunnels[0].node = "n2";
  facts.tunnels[0].usable = true;
  facts.tunnels[0].mtu = 1450;
  facts.tunnels[1].node = "n3";
  facts.leaving = {{"s/http", ip("10.0.0.2"), 8080, 12}};
  const std::string page = metrics.render(facts, {});
  EXPECT_THAT(page, HasSubstr("sluice_agent_tunnel_usable{node=\"n2\"} 1"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_tunnel_usable{node=\"n3\"} 0"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_tunnel_mtu_bytes{node=\"n2\"} 1450"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_draining_flows{service=\"s/http\",backend=\"10.0.0.2:8080\"} 12"));
}

TEST(Metrics, PushesAndReloadsAreThereFromTheStart) {
  Metrics metrics("1", "a", Metrics::Mode::standalone);
  EXPECT_THAT(metrics.render({}, {}), HasSubstr("sluice_agent_pushes_total{result=\"refused\"} 0"));
  EXPECT_THAT(metrics.render({}, {}), HasSubstr("sluice_agent_config_reloads_total{result=\"refused\"} 0"));
  metrics.pushed(std::chrono::milliseconds(3), true);
  metrics.pushed(std::chrono::milliseconds(3), false);
  metrics.reloaded(false, {});
  const std::string page = metrics.render({}, {});
  EXPECT_THAT(page, HasSubstr("sluice_agent_push_duration_seconds_bucket{le=\"0.005\"} 1"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_pushes_total{result=\"refused\"} 1"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_config_reloads_total{result=\"refused\"} 1"));
  EXPECT_THAT(page, HasSubstr("sluice_agent_config_last_reload_successful 0"));
}

TEST(Metrics, WithoutAFileNothingIsSaidOfOne) {
  Metrics metrics("1", "a", Metrics::Mode::cluster);
  EXPECT_THAT(metrics.render({}, {}), Not(HasSubstr("sluice_agent_config_")));
  metrics.reloaded(true, {});
  EXPECT_THAT(metrics.render({}, {}), Not(HasSubstr("sluice_agent_config_")));
}

TEST(Probes, StuckIsNotHealthy) {
  EXPECT_EQ(healthz(std::chrono::seconds(0)).status, 200);
  EXPECT_EQ(healthz(std::chrono::seconds(61)).status, 503);
}

TEST(Probes, BrokenFileIsToldButTheAgentStaysReady) {
  Facts facts;
  facts.ready = true;
  facts.conditions = {{"Ready", true, "Ready", "forwarding"}};
  EXPECT_THAT(readyz(facts).body, Not(HasSubstr("configuration")));
  facts.config_error = "lb.yaml:3:4: x: no such field";
  EXPECT_EQ(readyz(facts).status, 200);
  EXPECT_THAT(readyz(facts).body, HasSubstr("Ready=True Ready: forwarding"));
  EXPECT_THAT(readyz(facts).body, HasSubstr("lb.yaml:3:4"));
  facts.ready = false;
  EXPECT_EQ(readyz(facts).status, 503);
}

}  // namespace
}  // namespace sluice::agent::health
