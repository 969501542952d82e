#include "node-agent/dataplane/attachments.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/causes.h"
#include "node-agent/dataplane/grace.h"
#include "node-agent/dataplane/tc.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kAttach = "attach XDP program to";

const char* text(AttachMode mode) {
  return mode == AttachMode::native ? "native" : "generic";
}

bpf_xdp_query_opts query(uint32_t ifindex) {
  bpf_xdp_query_opts options{};
  options.sz = sizeof options;
  bpf_xdp_query(static_cast<int>(ifindex), 0, &options);
  return options;
}

std::string program_text(uint32_t id) {
  const Fd program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  __u32 length = sizeof info;
  const bool named = program && bpf_obj_get_info_by_fd(program.get(), &info, &length) == 0;
  return (named ? std::string("'") + info.name + "' " : std::string()) + "(id " + std::to_string(id) + ")";
}

// The program of somebody else on an interface without a link of ours.
Status refuse_foreign(const Device& device) {
  const auto found = query(device.ifindex);
  for (const uint32_t id : {found.drv_prog_id, found.skb_prog_id, found.hw_prog_id, found.prog_id}) {
    if (id != 0) {
      return because(cause::kForeignProgram,
                     fail(ErrorKind::conflict, kAttach, device.name,
                          "another XDP program " + program_text(id) + " is attached there, and is left alone"));
    }
  }
  return {};
}

}  // namespace

uint32_t ifindex_of_link(int link) {
  bpf_link_info info{};
  __u32 length = sizeof info;
  return bpf_obj_get_info_by_fd(link, &info, &length) == 0 && info.type == BPF_LINK_TYPE_XDP ? info.xdp.ifindex : 0;
}

bool Attachments::alive(const Attachment& attachment) {
  return ifindex_of_link(attachment.link.get()) == attachment.device.ifindex;
}

Status Attachments::find() {
  for (const auto& layout : layout_directories(directory_)) {
    const std::string links = layout + "/links";
    for (const auto& name : entries(links)) {
      std::string pinned = links;
      pinned.append("/").append(name);
      auto found = find_one(pinned);
      if (!found) {
        return tl::unexpected(found.error());
      }
      if (*found) {
        std::string interface = (*found)->device.name;
        attachments_.insert_or_assign(std::move(interface), std::move(**found));
      } else if (Status gone = unpin(pinned); !gone) {
        spdlog::warn("{}", gone.error().message());
      }
    }
  }
  return stack_.find();
}

// nullopt: it leads to no interface, or to nothing. To unpin a link takes its program off, so whatever else keeps it
// from being looked at (no descriptor left, no memory) is an error.
Result<std::optional<Attachments::Attachment>> Attachments::find_one(const std::string& pinned) {
  const char* operation = "take over";
  Attachment attachment;
  attachment.pin = pinned;
  attachment.link = Fd(bpf_obj_get(pinned.c_str()));
  if (!attachment.link) {
    if (errno == ENOENT) {
      return std::nullopt;
    }
    return fail_errno(errno, operation, pinned);
  }
  bpf_link_info info{};
  __u32 length = sizeof info;
  if (bpf_obj_get_info_by_fd(attachment.link.get(), &info, &length) != 0) {
    return fail_errno(errno, operation, pinned);
  }
  if (info.type != BPF_LINK_TYPE_XDP || info.xdp.ifindex == 0) {
    return std::nullopt;
  }
  auto device = device_by_index(info.xdp.ifindex);
  if (!device) {
    if (device.error().kind == ErrorKind::not_found) {
      return std::nullopt;
    }
    return tl::unexpected(device.error());
  }
  attachment.device = std::move(*device);
  attachment.mode = query(info.xdp.ifindex).skb_prog_id != 0 ? AttachMode::generic : AttachMode::native;
  return attachment;
}

std::vector<AttachedInterface> Attachments::list() const {
  std::vector<AttachedInterface> attached;
  for (const auto& [name, attachment] : attachments_) {
    if (alive(attachment)) {
      attached.push_back({name, attachment.device.ifindex, attachment.mode, attachment.device.driver});
    }
  }
  return attached;
}

NodeLinkPrograms Attachments::programs_on(uint32_t ifindex) const {
  for (const auto& [name, attachment] : attachments_) {
    if (attachment.device.ifindex == ifindex && alive(attachment)) {
      return attachment.object ? NodeLinkPrograms::of_this_process : NodeLinkPrograms::of_an_earlier_process;
    }
  }
  return NodeLinkPrograms::none;
}

std::vector<std::string> Attachments::without_egress() const {
  return attachments_.empty() ? std::vector<std::string>{} : stack_.missing();
}

void Attachments::follow_devices(const std::map<uint32_t, StackDevice>& devices) {
  devices_ = devices;
  follow_stack();
}

// What is refused on a device that none of ours is attached to does not keep the others from forwarding.
void Attachments::follow_stack() {
  if (!stack_.loaded() && !attachments_.empty()) {
    return;  // not before the first set(): what an earlier process has left stays meanwhile
  }
  std::set<uint32_t> kept;
  for (const auto& [name, attachment] : attachments_) {
    kept.insert(attachment.device.ifindex);
  }
  const auto none = std::map<uint32_t, StackDevice>{};
  if (Status followed = stack_.follow(attachments_.empty() ? none : devices_, kept); !followed) {
    spdlog::warn("{}; replies that leave there keep their backend's address", followed.error().message());
  }
}

Status Attachments::set(const std::vector<InterfaceRequest>& requests, Maps& maps, const EgressOf& egress_of,
                        const std::string& left_alone) {
  std::vector<Step> steps;
  std::set<std::string> wanted;
  for (const auto& request : requests) {
    if (!wanted.insert(request.name).second) {
      return fail(ErrorKind::invalid, kAttach, request.name, "it is named twice");
    }
    auto step = prepare(request, maps, egress_of);
    if (!step) {
      return tl::unexpected(step.error());
    }
    steps.push_back(std::move(*step));
  }
  if (!requests.empty()) {
    if (Status loaded = stack_.load(maps); !loaded) {
      return loaded;
    }
    for (const auto& [id, fd] : stack_.stages()) {
      if (Status pinned = pin(fd, stages_directory() + "/" + stack_stages_pin_name(id)); !pinned) {
        return pinned;
      }
    }
  }
  // What can be refused comes first; taken back when one is. An interface that has a link already is updated in place.
  std::vector<std::pair<std::string, std::optional<AttachMode>>> done;
  for (Step& step : steps) {
    const std::string name = step.device.name;
    std::optional<AttachMode> before;
    Status outcome;
    if (step.kind == Step::Kind::create) {
      outcome = create(step);
    } else if (step.kind == Step::Kind::change_mode) {
      before = attachments_.at(name).mode;
      outcome = change_mode(step);
    } else {
      continue;
    }
    if (!outcome) {
      for (const auto& [other, mode] : done) {
        if (mode) {
          back_to(other, *mode);
        } else if (Status gone = detach(attachments_.at(other)); gone) {
          attachments_.erase(other);
        }
      }
      return outcome;
    }
    done.emplace_back(name, before);
  }
  // The classifier goes to the maps that take the place of others before the XDP program does, and must know the flows
  // that have begun since these were made.
  maps.take_over_flows();
  for (Step& step : steps) {
    if (step.kind == Step::Kind::update || step.kind == Step::Kind::keep) {
      if (Status updated = update(step); !updated) {
        return updated;
      }
    }
  }
  for (auto attachment = attachments_.begin(); attachment != attachments_.end();) {
    if (wanted.contains(attachment->first) || attachment->first == left_alone) {
      ++attachment;
      continue;
    }
    if (Status gone = detach(attachment->second); !gone) {
      return gone;
    }
    attachment = attachments_.erase(attachment);
  }
  if (maps.replacing()) {
    // Flows that began while the programs before still used the older map.
    maps.take_over_flows();
    if (Status pinned = maps.pin_all(); !pinned) {
      return pinned;
    }
  }
  if (Status mended = stack_.mend(); !mended) {
    spdlog::warn("{}", mended.error().message());
  }
  follow_stack();
  unpin_former_stages();
  remove_older_layouts();
  return {};
}

Status Attachments::follow_egress(Maps& maps, const EgressOf& egress_of) {
  std::vector<InterfaceRequest> requests;
  bool differs = false;
  for (const auto& [name, attachment] : attachments_) {
    if (!alive(attachment)) {
      continue;
    }
    requests.push_back({name, attachment.mode});
    differs =
        differs || (attachment.object && attachment.object->constants().egress != egress_of(attachment.device.ifindex));
  }
  return differs ? set(requests, maps, egress_of) : Status();
}

// Looks and loads; changes nothing that is attached.
Result<Attachments::Step> Attachments::prepare(const InterfaceRequest& request, const Maps& maps,
                                               const EgressOf& egress_of) {
  auto device = device_by_name(request.name);
  if (!device) {
    return because(device.error().cause, fail(device.error().kind, kAttach, request.name, device.error().reason));
  }
  if (!device->ethernet) {
    return because(
        cause::kNotEthernet,
        fail(ErrorKind::invalid, kAttach, request.name,
             "it is no Ethernet interface, and Sluice reads Ethernet frames alone: take it out of interfaces"));
  }
  Step step;
  step.device = std::move(*device);
  step.mode = request.mode;
  const auto known = attachments_.find(request.name);
  if (known != attachments_.end() && (known->second.device.ifindex != step.device.ifindex || !alive(known->second))) {
    // The interface of that name is another one now, or somebody has detached the link.
    if (Status gone = unpin(known->second.pin); !gone) {
      return tl::unexpected(gone.error());
    }
    attachments_.erase(known);
  }
  const auto now = attachments_.find(request.name);
  if (now == attachments_.end()) {
    if (Status free = refuse_foreign(step.device); !free) {
      return tl::unexpected(free.error());
    }
    step.kind = Step::Kind::create;
  } else if (now->second.mode != request.mode) {
    step.kind = Step::Kind::change_mode;
  } else {
    const auto& object = now->second.object;
    const bool same = object && object->constants() == constants_of(step.device, egress_of(step.device.ifindex));
    step.kind = same ? Step::Kind::keep : Step::Kind::update;
  }
  if (step.kind != Step::Kind::keep) {
    auto object = ProgramObject::load(maps, step.device, egress_of(step.device.ifindex));
    if (!object) {
      return tl::unexpected(object.error());
    }
    if (Status pinned = pin_stages(step.device.name, *object); !pinned) {
      return tl::unexpected(pinned.error());
    }
    step.object = std::move(*object);
  }
  return step;
}

Result<Fd> Attachments::create_link(const Device& device, AttachMode mode, int program) {
  LIBBPF_OPTS(bpf_link_create_opts, options,
              .flags = mode == AttachMode::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  Fd link(bpf_link_create(program, static_cast<int>(device.ifindex), BPF_XDP, &options));
  if (link) {
    return link;
  }
  const int error = errno;
  auto failed = fail_errno(error, kAttach, device.name);
  switch (error) {
    case EPERM:
    case EACCES:
      return because(cause::kBpfRefused, failed);
    case EBUSY:
    case EEXIST:
      return because(cause::kForeignProgram, failed);
    case ENODEV:
      return because(cause::kInterfaceNotFound, failed);
    case ENOMEM:
      return failed;
    default:
      break;
  }
  if (mode == AttachMode::generic) {
    return failed;
  }
  failed.value().kind = ErrorKind::not_supported;
  failed.value().reason = "driver " + (device.driver.empty() ? "(unknown)" : device.driver) +
                          " does not take XDP in native mode (" + failed.value().reason + ")";
  return because(cause::kNativeModeNotSupported, failed);
}

// The classifier comes first: a reply to what the XDP program lets in would leave untranslated without it, while it has
// nothing to do before the first flow.
Status Attachments::create(Step& step) {
  if (Status egress = stack_.put(step.device.ifindex, {step.device.name, true}); !egress) {
    return egress;
  }
  auto link = create_link(step.device, step.mode, step.object->xdp());
  if (!link) {
    if (devices_.contains(step.device.ifindex)) {
      return tl::unexpected(link.error());
    }
    if (Status off = stack_.take_off(step.device.ifindex, step.device.name); !off) {
      spdlog::warn("{}", off.error().message());
    }
    return tl::unexpected(link.error());
  }
  Attachment attachment;
  attachment.device = step.device;
  attachment.mode = step.mode;
  attachment.link = std::move(*link);
  attachment.object = std::move(step.object);
  if (Status outcome = pin_link(attachment); !outcome) {
    if (Status gone = detach(attachment); !gone) {
      spdlog::warn("{}", gone.error().message());
    }
    return outcome;
  }
  attachments_.insert_or_assign(step.device.name, std::move(attachment));
  return {};
}

// The kernel has one mode on an interface at a time: off with the one, on with the other.
Status Attachments::change_mode(Step& step) {
  Attachment& attachment = attachments_.at(step.device.name);
  const AttachMode before = attachment.mode;
  const auto reattach = [&](AttachMode mode) -> Status {
    auto link = create_link(step.device, mode, step.object->xdp());
    if (!link) {
      return tl::unexpected(link.error());
    }
    attachment.link = std::move(*link);
    attachment.mode = mode;
    return pin_link(attachment);
  };
  if (Status egress = stack_.put(step.device.ifindex, {step.device.name, true}); !egress) {
    return egress;
  }
  if (bpf_link_detach(attachment.link.get()) != 0) {
    return fail_errno(errno, "detach XDP program from", step.device.name);
  }
  Status outcome = reattach(step.mode);
  if (!outcome) {
    if (Status again = reattach(before); !again) {
      spdlog::error("{} in {} mode, as it was", again.error().message(), text(before));
    }
  }
  attachment.device = step.device;
  attachment.object = std::move(step.object);
  return outcome;
}

void Attachments::back_to(const std::string& name, AttachMode mode) {
  Attachment& attachment = attachments_.at(name);
  Step step;
  step.device = attachment.device;
  step.mode = mode;
  step.object = std::move(attachment.object);
  if (Status outcome = change_mode(step); !outcome) {
    spdlog::error("{} in {} mode, as it was", outcome.error().message(), text(mode));
  }
}

Status Attachments::update(Step& step) {
  Attachment& attachment = attachments_.at(step.device.name);
  if (step.kind == Step::Kind::keep) {
    const auto there = has_egress(step.device.ifindex, step.device.name);
    return there && *there ? Status() : stack_.put(step.device.ifindex, {step.device.name, true});
  }
  if (Status egress = stack_.put(step.device.ifindex, {step.device.name, true}); !egress) {
    return egress;
  }
  if (bpf_link_update(attachment.link.get(), step.object->xdp(), nullptr) != 0) {
    return fail_errno(errno, "update XDP program of", step.device.name);
  }
  attachment.device = step.device;
  attachment.object = std::move(step.object);
  return pin_link(attachment);
}

std::string Attachments::stages_directory() const {
  return layout_directory(directory_) + "/stages";
}

// Before the programs are attached. A name of its own for each: those of the programs that are attached until then
// stay.
Status Attachments::pin_stages(const std::string& interface, const ProgramObject& object) const {
  for (const auto& [id, fd] : object.stages()) {
    if (Status pinned = pin(fd, stages_directory() + "/" + stages_pin_name(interface, id)); !pinned) {
      return pinned;
    }
  }
  return {};
}

// Those of programs that are attached no more, when none of these runs any more either.
void Attachments::unpin_former_stages() const {
  std::set<std::string> kept;
  std::set<std::string> unknown;  // of programs that an earlier process has attached
  for (const auto& [id, fd] : stack_.stages()) {
    kept.insert(stack_stages_pin_name(id));
  }
  for (const auto& [name, attachment] : attachments_) {
    if (!attachment.object) {
      unknown.insert(name);
      continue;
    }
    for (const auto& [id, fd] : attachment.object->stages()) {
      kept.insert(stages_pin_name(name, id));
    }
  }
  auto former = entries(stages_directory());
  std::erase_if(former, [&](const std::string& name) {
    return kept.contains(name) || unknown.contains(interface_of_stages_pin(name));
  });
  if (former.empty()) {
    return;
  }
  if (Status waited = wait_for_grace_period(); !waited) {
    spdlog::warn("{}; programs that are attached no more stay pinned", waited.error().message());
    return;
  }
  for (const auto& name : former) {
    if (Status gone = unpin(stages_directory() + "/" + name); !gone) {
      spdlog::warn("{}", gone.error().message());
    }
  }
}

// Pins the link where this layout has it, and nowhere else.
Status Attachments::pin_link(Attachment& attachment) const {
  const std::string place = layout_directory(directory_) + "/links/" + link_pin_name(attachment.device.name);
  if (attachment.pin == place && ifindex_of_link(Fd(bpf_obj_get(place.c_str())).get()) == attachment.device.ifindex) {
    return {};
  }
  if (Status pinned = pin(attachment.link.get(), place); !pinned) {
    return pinned;
  }
  if (!attachment.pin.empty() && attachment.pin != place) {
    if (Status gone = unpin(attachment.pin); !gone) {
      return gone;
    }
  }
  attachment.pin = place;
  return {};
}

Status Attachments::detach(Attachment& attachment) {
  if (alive(attachment)) {
    if (bpf_link_detach(attachment.link.get()) != 0) {
      return fail_errno(errno, "detach XDP program from", attachment.device.name);
    }
    if (!devices_.contains(attachment.device.ifindex)) {
      if (Status off = stack_.take_off(attachment.device.ifindex, attachment.device.name); !off) {
        return off;
      }
    }
  }
  return attachment.pin.empty() ? Status() : unpin(attachment.pin);
}

Status Attachments::detach_all() {
  for (auto& [name, attachment] : attachments_) {
    if (Status gone = detach(attachment); !gone) {
      return gone;
    }
  }
  attachments_.clear();
  devices_.clear();
  return stack_.take_off_all();
}

void Attachments::remove_older_layouts() const {
  for (const auto& layout : layout_directories(directory_)) {
    if (layout != layout_directory(directory_)) {
      if (Status gone = remove_tree(layout); !gone) {
        spdlog::warn("{}", gone.error().message());
      }
    }
  }
}

}  // namespace sluice::agent::dataplane
