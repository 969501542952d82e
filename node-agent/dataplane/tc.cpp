#include "node-agent/dataplane/tc.h"

#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "node-agent/dataplane/causes.h"

namespace sluice::agent::dataplane {
namespace {

// First of all: a classifier before ours that ends the search would leave replies untranslated. Ours never ends it.
// Others may have the same priority with other handles.
constexpr __u32 kPriority = 1;
constexpr __u32 kHandle = 0x51c;
// libbpf names a classifier "<program>:[<id>]".
constexpr const char* kName = "sluice_egress";

struct Filter {
  __u32 priority = 0;
  __u32 handle = 0;
  std::string name;
  [[nodiscard]] bool in_our_place() const { return priority == kPriority && handle == kHandle; }
  [[nodiscard]] bool ours() const { return in_our_place() && name.rfind(kName, 0) == 0; }
};

struct SocketDeleter {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
};

int collect(nl_msg* message, void* argument) {
  const nlmsghdr* header = nlmsg_hdr(message);
  if (header->nlmsg_type != RTM_NEWTFILTER) {
    return NL_OK;
  }
  std::array<nlattr*, TCA_MAX + 1> attributes{};
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), sizeof(tcmsg), attributes.data(), TCA_MAX, nullptr) != 0) {
    return NL_OK;
  }
  const auto* tc = static_cast<const tcmsg*>(nlmsg_data(header));
  // A priority's head comes as a filter without handle: not one by itself.
  if (tc->tcm_handle == 0) {
    return NL_OK;
  }
  Filter filter;
  filter.priority = TC_H_MAJ(tc->tcm_info) >> 16;
  filter.handle = tc->tcm_handle;
  const bool bpf = attributes[TCA_KIND] != nullptr && std::string(nla_get_string(attributes[TCA_KIND])) == "bpf";
  std::array<nlattr*, TCA_BPF_MAX + 1> options{};
  if (bpf && attributes[TCA_OPTIONS] != nullptr &&
      nla_parse_nested(options.data(), TCA_BPF_MAX, attributes[TCA_OPTIONS], nullptr) == 0 &&
      options[TCA_BPF_NAME] != nullptr) {
    filter.name = nla_get_string(options[TCA_BPF_NAME]);
  }
  static_cast<std::vector<Filter>*>(argument)->push_back(filter);
  return NL_OK;
}

// The classifiers on one side of clsact; none where there is no clsact.
Result<std::vector<Filter>> filters(uint32_t ifindex, const std::string& interface, __u32 side) {
  const char* operation = "list the tc classifiers of";
  const std::unique_ptr<nl_sock, SocketDeleter> socket(nl_socket_alloc());
  if (socket == nullptr || nl_connect(socket.get(), NETLINK_ROUTE) != 0) {
    return fail(ErrorKind::internal, operation, interface, "no netlink socket");
  }
  tcmsg request{};
  request.tcm_family = AF_UNSPEC;
  request.tcm_ifindex = static_cast<int>(ifindex);
  request.tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
  std::vector<Filter> found;
  nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, collect, &found);
  int error = nl_send_simple(socket.get(), RTM_GETTFILTER, NLM_F_DUMP, &request, sizeof request);
  if (error >= 0) {
    error = nl_recvmsgs_default(socket.get());
  }
  if (error == -NLE_OBJ_NOTFOUND || error == -NLE_INVAL || error == -NLE_NODEV) {
    return std::vector<Filter>{};  // no clsact, or no such interface any more
  }
  if (error < 0) {
    return fail(ErrorKind::internal, operation, interface, nl_geterror(error));
  }
  return found;
}

bpf_tc_hook hook_for(uint32_t ifindex, bpf_tc_attach_point point) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = point;
  return hook;
}

int remove_clsact(uint32_t ifindex) {
  bpf_tc_hook both = hook_for(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  return bpf_tc_hook_destroy(&both);
}

bpf_tc_opts our_place() {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = kHandle;
  options.priority = kPriority;
  return options;
}

}  // namespace

Result<bool> has_egress(uint32_t ifindex, const std::string& interface) {
  const auto found = filters(ifindex, interface, TC_H_MIN_EGRESS);
  if (!found) {
    return tl::unexpected(found.error());
  }
  return std::any_of(found->begin(), found->end(), [](const Filter& filter) { return filter.ours(); });
}

tl::unexpected<Error> egress_refused(int error, const char* operation, const std::string& interface,
                                     const char* feature) {
  auto failed = fail_errno(error, operation, interface);
  // The kernel's word for a kind of qdisc or classifier that it does not have and cannot load.
  if (error == ENOENT || error == EOPNOTSUPP) {
    failed.value().kind = ErrorKind::internal;
    failed.value().reason = std::string("this kernel lacks ") + feature + " (" + failed.value().reason + ")";
    return because(cause::kMissingKernelFeature, failed);
  }
  if (error == ENODEV) {
    return because(cause::kInterfaceNotFound, failed);
  }
  return error == EPERM || error == EACCES ? because(cause::kBpfRefused, failed) : failed;
}

Status attach_egress(uint32_t ifindex, const std::string& interface, int program) {
  const char* operation = "attach the program on tc egress to";
  const auto found = filters(ifindex, interface, TC_H_MIN_EGRESS);
  if (!found) {
    return tl::unexpected(found.error());
  }
  for (const Filter& filter : *found) {
    if (filter.in_our_place() && !filter.ours()) {
      return because(cause::kForeignProgram,
                     fail(ErrorKind::conflict, operation, interface,
                          "another classifier, " + filter.name + ", has priority " + std::to_string(kPriority) +
                              " and handle " + std::to_string(kHandle)));
    }
  }
  bpf_tc_hook hook = hook_for(ifindex, BPF_TC_EGRESS);
  const int made = bpf_tc_hook_create(&hook);
  if (made != 0 && made != -EEXIST) {
    return egress_refused(-made, "add clsact to", interface, "CONFIG_NET_SCH_INGRESS, module sch_ingress");
  }
  bpf_tc_opts options = our_place();
  options.prog_fd = program;
  options.flags = BPF_TC_F_REPLACE;
  if (const int error = bpf_tc_attach(&hook, &options); error != 0) {
    if (made == 0) {
      remove_clsact(ifindex);
    }
    return egress_refused(-error, operation, interface, "CONFIG_NET_CLS_BPF, module cls_bpf");
  }
  return {};
}

Status detach_classifiers(uint32_t ifindex, const std::string& interface) {
  const auto ours = has_egress(ifindex, interface);
  if (!ours) {
    return tl::unexpected(ours.error());
  }
  if (!*ours) {
    return {};
  }
  bpf_tc_hook hook = hook_for(ifindex, BPF_TC_EGRESS);
  bpf_tc_opts options = our_place();
  if (const int error = bpf_tc_detach(&hook, &options); error != 0 && error != -ENOENT) {
    return fail_errno(-error, "take the program off tc egress of", interface);
  }
  for (const __u32 side : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
    const auto rest = filters(ifindex, interface, side);
    if (!rest || !rest->empty()) {
      return {};
    }
  }
  if (const int error = remove_clsact(ifindex); error != 0 && error != -ENOENT) {
    return fail_errno(-error, "remove clsact from", interface);
  }
  return {};
}

}  // namespace sluice::agent::dataplane
