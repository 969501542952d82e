#include <net/if.h>
#include <netinet/in.h>
// libc's before the kernel's, which then leaves out what libc has.
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/health/forward_chains.h"

namespace sluice::agent::health {
namespace {

constexpr const char* kOperation = "read FORWARD of";
constexpr const char* kTable = "filter";
constexpr int kAttempts = 4;  // somebody may write it between the question for its size and the one for it

struct Ipv4 {
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
  static constexpr int kDomain = AF_INET;
  static constexpr int kLevel = IPPROTO_IP;
  static constexpr int kGetInfo = IPT_SO_GET_INFO;
  static constexpr int kGetEntries = IPT_SO_GET_ENTRIES;
  static constexpr const char* kFamily = "ip";
  static constexpr const char* kTool = "iptables-legacy";
  static constexpr const char* kNames = "/proc/thread-self/net/ip_tables_names";
  static const ipt_ip& condition(const Entry& entry) { return entry.ip; }
};

struct Ipv6 {
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
  static constexpr int kDomain = AF_INET6;
  static constexpr int kLevel = IPPROTO_IPV6;
  static constexpr int kGetInfo = IP6T_SO_GET_INFO;
  static constexpr int kGetEntries = IP6T_SO_GET_ENTRIES;
  static constexpr const char* kFamily = "ip6";
  static constexpr const char* kTool = "ip6tables-legacy";
  static constexpr const char* kNames = "/proc/thread-self/net/ip6_tables_names";
  static const ip6t_ip6& condition(const Entry& entry) { return entry.ipv6; }
};

// A question for a table that is not in use would load it, and with it a hook in every packet's way.
bool in_use(const char* names) {
  std::ifstream file(names);
  for (std::string line; std::getline(file, line);) {
    if (line == kTable) return true;
  }
  return false;
}

template <typename Family>
struct Table {
  typename Family::Info info{};
  std::vector<char> entries;
};

template <typename Family>
Result<Table<Family>> read_table() {
  using Entries = typename Family::Entries;
  const int fd = socket(Family::kDomain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail_errno(errno, kOperation, Family::kTool);
  int error = EAGAIN;
  Table<Family> table;
  std::vector<char> room;
  for (int attempt = 0; attempt < kAttempts && error == EAGAIN; ++attempt) {
    std::string_view(kTable).copy(table.info.name, sizeof table.info.name - 1);
    socklen_t length = sizeof table.info;
    error = getsockopt(fd, Family::kLevel, Family::kGetInfo, &table.info, &length) == 0 ? 0 : errno;
    if (error != 0) break;
    room.assign(sizeof(Entries) + table.info.size, 0);
    auto* head = reinterpret_cast<Entries*>(room.data());
    std::string_view(kTable).copy(head->name, sizeof head->name - 1);
    head->size = table.info.size;
    length = static_cast<socklen_t>(room.size());
    error = getsockopt(fd, Family::kLevel, Family::kGetEntries, head, &length) == 0 ? 0 : errno;
  }
  close(fd);
  if (error != 0) return fail_errno(error, kOperation, Family::kTool);
  table.entries.assign(room.begin() + offsetof(Entries, entrytable), room.end());
  return table;
}

struct Rule {
  bool conditional = false;
  int verdict = 0;  // NF_ACCEPT or NF_DROP; others: goes on, or elsewhere
  size_t length = 0;
};
constexpr int kElsewhere = -1;

// Whether its matches say nothing but comments.
bool only_comments(const char* match, const char* end) {
  while (match + sizeof(xt_entry_match) <= end) {
    xt_entry_match head{};
    std::memcpy(&head, match, sizeof head);
    const std::string_view name(head.u.user.name, strnlen(head.u.user.name, sizeof head.u.user.name));
    if (name != "comment" || head.u.match_size < sizeof head) return false;
    match += head.u.match_size;
  }
  return true;
}

int verdict_of(const char* target, const char* end) {
  xt_standard_target head{};
  if (target + sizeof(xt_entry_target) > end) return kElsewhere;
  std::memcpy(&head, target, std::min(sizeof head, static_cast<size_t>(end - target)));
  const auto& user = head.target.u.user;
  const std::string_view name(user.name, strnlen(user.name, sizeof user.name));
  if (name == "REJECT") return NF_DROP;
  if (!name.empty() || target + sizeof head > end || head.verdict >= 0) return kElsewhere;
  return -head.verdict - 1;
}

template <typename Family>
Result<Rule> parse_rule(const std::vector<char>& entries, size_t at) {
  using Entry = typename Family::Entry;
  const auto broken = fail(ErrorKind::internal, kOperation, Family::kTool, "its rules are not as they should be");
  if (at + sizeof(Entry) > entries.size()) return broken;
  Entry entry{};
  std::memcpy(&entry, entries.data() + at, offsetof(Entry, elems));
  const size_t left = entries.size() - at;
  if (entry.next_offset <= sizeof(Entry) || entry.next_offset > left || entry.target_offset > entry.next_offset ||
      entry.target_offset < sizeof(Entry)) {
    return broken;
  }
  const char* begin = entries.data() + at;
  Rule rule;
  rule.length = entry.next_offset;
  rule.verdict = verdict_of(begin + entry.target_offset, begin + entry.next_offset);
  const auto& condition = Family::condition(entry);
  const std::vector<char> none(sizeof condition, 0);
  const bool addressed = std::memcmp(&condition, none.data(), sizeof condition) != 0;
  const bool ends = rule.verdict == NF_ACCEPT || rule.verdict == NF_DROP;
  rule.conditional = !ends || addressed || !only_comments(begin + sizeof(Entry), begin + entry.target_offset);
  return rule;
}

template <typename Family>
Status add_forward(std::vector<ForwardChain>& out) {
  if (!in_use(Family::kNames)) return {};
  const auto table = read_table<Family>();
  if (!table) return tl::unexpected(table.error());
  ForwardChain chain;
  chain.legacy = true;
  chain.family = Family::kFamily;
  chain.table = kTable;
  chain.name = "FORWARD";
  const size_t policy_at = table->info.underflow[NF_INET_FORWARD];
  size_t number = 0;
  for (size_t at = table->info.hook_entry[NF_INET_FORWARD];;) {
    const auto rule = parse_rule<Family>(table->entries, at);
    if (!rule) return tl::unexpected(rule.error());
    ++number;
    if (!rule->conditional) {
      chain.drops = rule->verdict == NF_DROP;
      chain.dropping_rule = chain.drops && at != policy_at ? number : 0;
      break;
    }
    if (at >= policy_at) break;
    ++chain.rules;
    at += rule->length;
  }
  out.push_back(std::move(chain));
  return {};
}

}  // namespace

Result<std::vector<ForwardChain>> read_legacy_forward() {
  std::vector<ForwardChain> out;
  if (auto added = add_forward<Ipv4>(out); !added) return tl::unexpected(added.error());
  if (auto added = add_forward<Ipv6>(out); !added) return tl::unexpected(added.error());
  return out;
}

}  // namespace sluice::agent::health
