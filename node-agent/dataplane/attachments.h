// Which interfaces the programs are attached to, and changing that as a whole. Internal to dataplane/.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/fd.h"
#include "node-agent/dataplane/program_object.h"
#include "node-agent/dataplane/stack_programs.h"

namespace sluice::agent::dataplane {

class Attachments {
 public:
  explicit Attachments(std::string directory) : directory_(std::move(directory)) {}

  // Finds what an earlier process has left attached, of any layout. Pins of links that are dead are removed. Fails
  // where a link cannot be looked at; it stays.
  Status find();

  // An interface's index in `egress`; 0: it has none.
  using EgressOf = std::function<uint32_t(uint32_t ifindex)>;

  // See Dataplane::attach. Puts `maps` in the place of their pins when the programs that use them are attached.
  // `left_alone`: an interface that stays as it is where it is not among the requests.
  Status set(const std::vector<InterfaceRequest>& requests, Maps& maps, const EgressOf& egress_of,
             const std::string& left_alone = {});

  // Loads the programs of interfaces anew whose index in `egress` is another than the one they were loaded with. What
  // an earlier process has loaded is left to set().
  Status follow_egress(Maps& maps, const EgressOf& egress_of);

  // Devices that the programs for the node's own stack belong on, besides those that are attached to: as long as any
  // is.
  void follow_devices(const std::map<uint32_t, StackDevice>& devices);

  // Those whose link is alive.
  [[nodiscard]] std::vector<AttachedInterface> list() const;

  // Whose programs an interface has, of those that list() has.
  [[nodiscard]] NodeLinkPrograms programs_on(uint32_t ifindex) const;

  // See Dataplane::without_egress.
  [[nodiscard]] std::vector<std::string> without_egress() const;

  // Takes everything off.
  Status detach_all();

 private:
  struct Attachment {
    Device device;
    AttachMode mode = AttachMode::native;
    Fd link;
    std::string pin;                      // where the link is pinned
    std::optional<ProgramObject> object;  // nullopt: an earlier process has loaded it
  };
  struct Step {
    enum class Kind { keep, update, change_mode, create };
    Kind kind = Kind::create;
    Device device;
    AttachMode mode = AttachMode::native;
    std::optional<ProgramObject> object;  // loaded, but for keep
  };

  static Result<std::optional<Attachment>> find_one(const std::string& pinned);
  [[nodiscard]] Result<Step> prepare(const InterfaceRequest& request, const Maps& maps, const EgressOf& egress_of);
  Status create(Step& step);
  Status change_mode(Step& step);
  Status update(Step& step);
  Status pin_link(Attachment& attachment) const;
  Status pin_stages(const std::string& interface, const ProgramObject& object) const;
  void unpin_former_stages() const;
  [[nodiscard]] std::string stages_directory() const;
  void back_to(const std::string& name, AttachMode mode);
  void remove_older_layouts() const;
  static bool alive(const Attachment& attachment);
  static Result<Fd> create_link(const Device& device, AttachMode mode, int program);
  Status detach(Attachment& attachment);
  void follow_stack();

  std::string directory_;
  std::map<std::string, Attachment> attachments_;  // by interface
  StackPrograms stack_;
  std::map<uint32_t, StackDevice> devices_;
};

// The ifindex that a link of an XDP program is on; 0: none, the interface is gone or the link was detached.
uint32_t ifindex_of_link(int link);

}  // namespace sluice::agent::dataplane
