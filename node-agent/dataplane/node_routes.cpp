#include "node-agent/dataplane/node_routes.h"

#include <linux/fib_rules.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kLead = "lead into the node link";
constexpr uint8_t kFamilies[] = {AF_INET, AF_INET6};

uint8_t family_of(const net::IpAddress& address) {
  return address.is_ipv4() ? AF_INET : AF_INET6;
}

// What a route to one address is to be, or is.
struct Route {
  uint32_t device = 0;
  net::IpAddress gateway;  // 0.0.0.0: none
  net::IpAddress source;   // 0.0.0.0: the kernel chooses
  friend bool operator==(const Route&, const Route&) = default;
};
using Routes = std::map<net::IpAddress, Route>;

rtmsg route_head(uint8_t family) {
  rtmsg head{};
  head.rtm_family = family;
  head.rtm_table = RT_TABLE_UNSPEC;  // it is in RTA_TABLE
  head.rtm_protocol = kNodeLinkProtocol;
  head.rtm_type = RTN_UNICAST;
  return head;
}

RouteMessage route_message(uint16_t type, uint16_t flags, const net::IpAddress& address, const Route& route) {
  rtmsg head = route_head(family_of(address));
  head.rtm_dst_len = static_cast<uint8_t>(address.size() * 8);
  const bool by_gateway = route.gateway != net::IpAddress{};
  // One neighbour, which needs no asking, for all addresses, instead of one each.
  if (by_gateway) head.rtm_flags = RTNH_F_ONLINK;
  head.rtm_scope = by_gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  RouteMessage message(type, flags, head);
  message.put(RTA_TABLE, kNodeLinkTable);
  message.put(RTA_DST, address);
  message.put(RTA_OIF, route.device);
  if (by_gateway) message.put(RTA_GATEWAY, route.gateway);
  if (route.source != net::IpAddress{}) message.put(RTA_PREFSRC, route.source);
  return message;
}

// Those that we have made. ENOENT: there is no such table.
Result<Routes> routes_there(RouteSocket& socket) {
  Routes found;
  for (const uint8_t family : kFamilies) {
    rtmsg head{};
    head.rtm_family = family;
    RouteMessage question(RTM_GETROUTE, 0, head);
    question.put(RTA_TABLE, kNodeLinkTable);
    const auto code = socket.list(std::move(question), [&found](const nlmsghdr* message) {
      const auto attribute = attributes_of<rtmsg>(message, RTA_MAX);
      const auto* there = static_cast<const rtmsg*>(NLMSG_DATA(message));
      if (message->nlmsg_type != RTM_NEWROUTE || there->rtm_protocol != kNodeLinkProtocol ||
          number_in(attribute[RTA_TABLE]) != kNodeLinkTable || attribute[RTA_DST] == nullptr ||
          there->rtm_type != RTN_UNICAST) {
        return;
      }
      found[address_in(attribute[RTA_DST])] = {number_in(attribute[RTA_OIF]), address_in(attribute[RTA_GATEWAY]),
                                               address_in(attribute[RTA_PREFSRC])};
    });
    if (!code) return tl::unexpected(code.error());
    if (*code != 0 && *code != ENOENT && *code != EAFNOSUPPORT && *code != EOPNOTSUPP) {
      return fail_errno(*code, "list routes", "");
    }
  }
  return found;
}

struct Rule {
  uint8_t family = 0;
  uint32_t priority = 0;
  friend auto operator<=>(const Rule&, const Rule&) = default;
};

RouteMessage rule_message(uint16_t type, uint16_t flags, const Rule& rule) {
  fib_rule_hdr head{};
  head.family = rule.family;
  const bool leads = rule.priority == kLeadRule;
  head.table = leads ? RT_TABLE_COMPAT : RT_TABLE_UNSPEC;
  head.action = leads ? FR_ACT_TO_TBL : FR_ACT_BLACKHOLE;
  RouteMessage message(type, flags, head);
  message.put(FRA_PRIORITY, rule.priority);
  message.put(FRA_PROTOCOL, kNodeLinkProtocol);
  if (leads) {
    message.put(FRA_TABLE, kNodeLinkTable);
  } else {
    message.put(FRA_IIFNAME, std::string_view(kNodeLinkFar));
  }
  return message;
}

// Those that we have made.
Result<std::multiset<Rule>> rules_there(RouteSocket& socket) {
  std::multiset<Rule> found;
  for (const uint8_t family : kFamilies) {
    fib_rule_hdr head{};
    head.family = family;
    std::multiset<Rule> of_family;
    const auto code = socket.list(RouteMessage(RTM_GETRULE, 0, head), [&](const nlmsghdr* message) {
      const auto attribute = attributes_of<fib_rule_hdr>(message, FRA_MAX);
      const auto* there = static_cast<const fib_rule_hdr*>(NLMSG_DATA(message));
      const uint32_t priority = number_in(attribute[FRA_PRIORITY]);
      const bool leads =
          priority == kLeadRule && there->action == FR_ACT_TO_TBL && number_in(attribute[FRA_TABLE]) == kNodeLinkTable;
      const bool ends =
          priority == kEndRule && there->action == FR_ACT_BLACKHOLE && text_in(attribute[FRA_IIFNAME]) == kNodeLinkFar;
      if (leads || ends) found.insert({family, priority});
    });
    if (!code) return tl::unexpected(code.error());
    if (*code != 0 && *code != EAFNOSUPPORT && *code != EOPNOTSUPP) return fail_errno(*code, "list rules", "");
  }
  return found;
}

// All that is asked of the kernel in one go, and what of it failed.
class Orders {
 public:
  // `fine`: what the kernel may say besides.
  void add(RouteMessage message, std::string object, int fine) {
    messages_.push_back(std::move(message));
    objects_.push_back({std::move(object), fine});
  }
  Status carry_out(RouteSocket& socket) {
    const auto codes = socket.tell(std::move(messages_));
    if (!codes) return tl::unexpected(codes.error());
    for (size_t i = 0; i < codes->size(); ++i) {
      if ((*codes)[i] != 0 && (*codes)[i] != objects_[i].second)
        return fail_errno((*codes)[i], kLead, objects_[i].first);
    }
    return {};
  }

 private:
  std::vector<RouteMessage> messages_;
  std::vector<std::pair<std::string, int>> objects_;
};

const char* text_of(uint8_t family) {
  return family == AF_INET ? "rule of IPv4" : "rule of IPv6";
}

Status follow_rules(RouteSocket& socket, const std::set<uint8_t>& families) {
  auto there = rules_there(socket);
  if (!there) return tl::unexpected(there.error());
  Orders orders;
  for (const uint8_t family : kFamilies) {
    for (const uint32_t priority : {kEndRule, kLeadRule}) {
      const Rule rule{family, priority};
      size_t count = there->count(rule);
      if (count == 0 && families.contains(family)) {
        orders.add(rule_message(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule), text_of(family), EEXIST);
      }
      for (; count > (families.contains(family) ? 1U : 0U); --count) {
        orders.add(rule_message(RTM_DELRULE, 0, rule), text_of(family), ENOENT);
      }
    }
  }
  return orders.carry_out(socket);
}

Routes wanted_routes(const NodeLink& link, const LedAddresses& addresses) {
  Routes wanted;
  for (const net::IpAddress& end : link.sources) {
    for (const auto& [address, source] : addresses) {
      if (address.family() != end.family()) continue;
      const bool has_source = source.family() == address.family() && source != net::IpAddress{};
      wanted[address] = {link.near, end, has_source ? source : net::IpAddress{}};
      wanted[end] = {link.near, {}, {}};
    }
  }
  return wanted;
}

Status follow_routes(RouteSocket& socket, const Routes& wanted) {
  const auto there = routes_there(socket);
  if (!there) return tl::unexpected(there.error());
  Orders orders;
  for (const auto& [address, route] : *there) {
    if (!wanted.contains(address)) {
      orders.add(route_message(RTM_DELROUTE, 0, address, route), address.to_string(), ESRCH);
    }
  }
  for (const auto& [address, route] : wanted) {
    const auto now = there->find(address);
    if (now == there->end() || now->second != route) {
      orders.add(route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, address, route), address.to_string(), 0);
    }
  }
  return orders.carry_out(socket);
}

}  // namespace

Status lead_into_node_link(const NodeLink& link, const LedAddresses& addresses) {
  auto socket = RouteSocket::open();
  if (!socket) return tl::unexpected(socket.error());
  std::set<uint8_t> families;
  for (const auto& [address, source] : addresses) families.insert(family_of(address));
  // The rule that ends comes before routes; the routes go before it.
  Status rules = families.empty() ? Status() : follow_rules(*socket, families);
  Status routes = follow_routes(*socket, wanted_routes(link, addresses));
  if (families.empty()) rules = follow_rules(*socket, families);
  return routes ? rules : routes;
}

Status remove_node_routes(RouteSocket& socket) {
  Status routes = follow_routes(socket, {});
  Status rules = follow_rules(socket, {});
  return routes ? rules : routes;
}

Result<net::IpAddress> own_address_towards(const net::IpAddress& to, const std::vector<uint32_t>& devices) {
  auto socket = RouteSocket::open();
  if (!socket) return tl::unexpected(socket.error());
  for (const uint32_t device : devices) {
    rtmsg head{};
    head.rtm_family = family_of(to);
    head.rtm_dst_len = static_cast<uint8_t>(to.size() * 8);
    RouteMessage question(RTM_GETROUTE, 0, head);
    question.put(RTA_DST, to);
    question.put(RTA_OIF, device);
    net::IpAddress source;
    const auto code = socket->ask(std::move(question), [&source, device](const nlmsghdr* message) {
      const auto attribute = attributes_of<rtmsg>(message, RTA_MAX);
      // A route of another device would be the answer to another question.
      if (number_in(attribute[RTA_OIF]) == device) source = address_in(attribute[RTA_PREFSRC]);
    });
    if (!code) return tl::unexpected(code.error());
    if (source != net::IpAddress{}) return source;
  }
  return net::IpAddress{};
}

}  // namespace sluice::agent::dataplane
