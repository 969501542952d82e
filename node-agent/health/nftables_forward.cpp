#include <endian.h>
#include <netinet/in.h>
// libc's before the kernel's, which then leaves out what libc has.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "node-agent/health/forward_chains.h"

namespace sluice::agent::health {
namespace {

constexpr const char* kOperation = "read forward chains of";
constexpr const char* kObject = "nftables";
constexpr int kAttempts = 4;  // what changes while it is listed is listed again

template <int Highest>
using Attributes = std::array<nlattr*, Highest + 1>;

std::string text(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  const auto* bytes = static_cast<const char*>(nla_data(attribute));
  return {bytes, strnlen(bytes, static_cast<size_t>(nla_len(attribute)))};
}

// Numbers are in network order here.
std::optional<uint32_t> number(const nlattr* attribute) {
  if (attribute == nullptr || nla_len(attribute) < static_cast<int>(sizeof(uint32_t))) return std::nullopt;
  uint32_t value = 0;
  std::memcpy(&value, nla_data(attribute), sizeof value);
  return ntohl(value);
}

template <int Highest>
Attributes<Highest> nested(nlattr* nest) {
  Attributes<Highest> attributes{};
  if (nest == nullptr || nla_parse_nested(attributes.data(), Highest, nest, nullptr) < 0) attributes.fill(nullptr);
  return attributes;
}

// Empty: another's.
std::string family_name(uint8_t family) {
  switch (family) {
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    case NFPROTO_INET:
      return "inet";
    default:
      return {};
  }
}

// What a rule does with every packet that comes to it; nullopt: it depends on the packet, or does nothing.
enum class Ends : uint8_t { accepts, drops };
struct Rule {
  bool conditional = false;
  std::optional<Ends> ends;
};

std::optional<Ends> verdict_of(nlattr* expression_data) {
  const auto immediate = nested<NFTA_IMMEDIATE_MAX>(expression_data);
  if (number(immediate[NFTA_IMMEDIATE_DREG]) != uint32_t{NFT_REG_VERDICT}) return std::nullopt;
  const auto data = nested<NFTA_DATA_MAX>(immediate[NFTA_IMMEDIATE_DATA]);
  const auto verdict = nested<NFTA_VERDICT_MAX>(data[NFTA_DATA_VERDICT]);
  const auto code = number(verdict[NFTA_VERDICT_CODE]);
  if (code == uint32_t{NF_ACCEPT}) return Ends::accepts;
  if (code == uint32_t{NF_DROP}) return Ends::drops;
  return std::nullopt;
}

void add_expression(Rule& rule, std::string_view name, nlattr* data) {
  if (name == "counter" || name == "log") return;
  if (name == "reject") {
    rule.ends = Ends::drops;
    return;
  }
  if (name == "immediate") {
    rule.ends = verdict_of(data);
    rule.conditional = rule.conditional || !rule.ends;  // a jump: who knows
    return;
  }
  // What iptables-nft has no words of nftables for.
  if (name == "target" && text(nested<NFTA_TARGET_MAX>(data)[NFTA_TARGET_NAME]) == "REJECT") {
    rule.ends = Ends::drops;
    return;
  }
  if (name == "match" && text(nested<NFTA_MATCH_MAX>(data)[NFTA_MATCH_NAME]) == "comment") return;
  rule.conditional = true;
}

Rule parse_rule(nlattr* expressions) {
  Rule rule;
  if (expressions == nullptr) return rule;
  nlattr* element = nullptr;
  int left = 0;
  nla_for_each_nested(element, expressions, left) {
    const auto expression = nested<NFTA_EXPR_MAX>(element);
    add_expression(rule, text(expression[NFTA_EXPR_NAME]), expression[NFTA_EXPR_DATA]);
  }
  return rule;
}

class Reader {
 public:
  Status open() {
    socket_.reset(nl_socket_alloc());
    if (!socket_) return fail(ErrorKind::exhausted, kOperation, kObject, "out of memory");
    if (const int code = nl_connect(socket_.get(), NETLINK_NETFILTER); code < 0) return failed(code);
    return {};
  }

  Result<std::vector<ForwardChain>> chains() {
    std::vector<ForwardChain> out;
    auto read = dump(
        NFT_MSG_GETCHAIN, AF_UNSPEC, [](nl_msg*) {},
        [&out](nlmsghdr* message) {
          if (auto chain = parse_chain(message)) out.push_back(std::move(*chain));
        },
        [&out] { out.clear(); });
    if (!read) return tl::unexpected(read.error());
    for (ForwardChain& chain : out) {
      if (auto with_rules = add_rules(chain); !with_rules) return tl::unexpected(with_rules.error());
    }
    return out;
  }

 private:
  using OnMessage = std::function<void(nlmsghdr*)>;
  struct Free {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  };
  static tl::unexpected<Error> failed(int code) {
    return fail(ErrorKind::unavailable, kOperation, kObject, nl_geterror(code));
  }
  static int forward(nl_msg* message, void* argument) {
    (*static_cast<OnMessage*>(argument))(nlmsg_hdr(message));
    return NL_OK;
  }

  static std::optional<ForwardChain> parse_chain(nlmsghdr* message) {
    Attributes<NFTA_CHAIN_MAX> attributes{};
    if (nlmsg_parse(message, sizeof(nfgenmsg), attributes.data(), NFTA_CHAIN_MAX, nullptr) < 0) return std::nullopt;
    std::string family = family_name(static_cast<const nfgenmsg*>(nlmsg_data(message))->nfgen_family);
    const auto hook = nested<NFTA_HOOK_MAX>(attributes[NFTA_CHAIN_HOOK]);
    if (family.empty() || number(hook[NFTA_HOOK_HOOKNUM]) != uint32_t{NF_INET_FORWARD}) return std::nullopt;
    ForwardChain chain;
    chain.family = std::move(family);
    chain.table = text(attributes[NFTA_CHAIN_TABLE]);
    chain.name = text(attributes[NFTA_CHAIN_NAME]);
    chain.drops = number(attributes[NFTA_CHAIN_POLICY]) == uint32_t{NF_DROP};
    return chain;
  }

  Status add_rules(ForwardChain& chain) {
    const auto family = static_cast<uint8_t>(chain.family == "ip"    ? NFPROTO_IPV4
                                             : chain.family == "ip6" ? NFPROTO_IPV6
                                                                     : NFPROTO_INET);
    const ForwardChain without = chain;
    size_t position = 0;
    bool ended = false;
    return dump(
        NFT_MSG_GETRULE, family,
        [&chain](nl_msg* message) {
          nla_put_string(message, NFTA_RULE_TABLE, chain.table.c_str());
          nla_put_string(message, NFTA_RULE_CHAIN, chain.name.c_str());
        },
        [&](nlmsghdr* message) {
          Attributes<NFTA_RULE_MAX> attributes{};
          if (nlmsg_parse(message, sizeof(nfgenmsg), attributes.data(), NFTA_RULE_MAX, nullptr) < 0) return;
          // Kernels that do not know the filter of a dump give every rule.
          if (text(attributes[NFTA_RULE_TABLE]) != chain.table || text(attributes[NFTA_RULE_CHAIN]) != chain.name)
            return;
          ++position;
          if (ended) return;
          const Rule rule = parse_rule(attributes[NFTA_RULE_EXPRESSIONS]);
          if (rule.conditional) {
            ++chain.rules;
          } else if (rule.ends) {
            ended = true;
            chain.drops = rule.ends == Ends::drops;
            chain.dropping_rule = chain.drops ? position : 0;
            chain.handle = chain.drops ? handle_of(attributes[NFTA_RULE_HANDLE]) : 0;
          }
        },
        [&] {
          chain = without;
          position = 0;
          ended = false;
        });
  }

  static uint64_t handle_of(const nlattr* attribute) {
    uint64_t handle = 0;
    if (attribute != nullptr && nla_len(attribute) >= static_cast<int>(sizeof handle)) {
      std::memcpy(&handle, nla_data(attribute), sizeof handle);
    }
    return be64toh(handle);
  }

  // `restart` before each attempt.
  Status dump(int type, uint8_t family, const std::function<void(nl_msg*)>& fill, const OnMessage& each,
              const std::function<void()>& restart) {
    int code = -NLE_NOMEM;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      restart();
      const std::unique_ptr<nl_msg, void (*)(nl_msg*)> message(
          nlmsg_alloc_simple(NFNL_SUBSYS_NFTABLES << 8 | type, NLM_F_DUMP), nlmsg_free);
      nfgenmsg head{};
      head.nfgen_family = family;
      head.version = NFNETLINK_V0;
      if (!message || nlmsg_append(message.get(), &head, sizeof head, NLMSG_ALIGNTO) < 0) break;
      fill(message.get());
      auto argument = each;
      nl_socket_modify_cb(socket_.get(), NL_CB_VALID, NL_CB_CUSTOM, forward, &argument);
      code = nl_send_auto(socket_.get(), message.get());
      if (code >= 0) code = nl_recvmsgs_default(socket_.get());
      if (code != -NLE_DUMP_INTR) break;
    }
    // A kernel without nftables.
    if (code == -NLE_OPNOTSUPP || code == -NLE_INVAL) return {};
    if (code < 0) return failed(code);
    return {};
  }

  std::unique_ptr<nl_sock, Free> socket_;
};

}  // namespace

Result<std::vector<ForwardChain>> read_nftables_forward() {
  Reader reader;
  if (auto opened = reader.open(); !opened) return tl::unexpected(opened.error());
  return reader.chains();
}

}  // namespace sluice::agent::health
