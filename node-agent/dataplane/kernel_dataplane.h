// The real dataplane: this machine's kernel, by libbpf.
#pragma once

#include <memory>
#include <string>

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/dataplane/maps.h"
#include "node-agent/program/programmer.h"

namespace sluice::agent::dataplane {

struct Options {
  std::string directory = "/sys/fs/bpf/sluice";  // for pins, on a bpffs
  MapSizes sizes;
  program::NatPorts nat_ports;
};

// Used by one thread at a time; another process cannot open the same directory meanwhile. Closing it (or dying) leaves
// everything attached and forwarding.
class KernelDataplane final : public Dataplane {
 public:
  // Takes over what an earlier process has left in the directory; where it fails and nothing was left, it leaves
  // nothing either. Errors: not_supported (the kernel is too old), denied (a capability is missing, bpf is refused),
  // unavailable (no bpffs), conflict (another process has it open), invalid (options), exhausted (memory).
  static Result<std::unique_ptr<Dataplane>> open(const Options& options);
  // As Dataplane::purge, without opening: also where what is there cannot be taken over. Fails (conflict) where a
  // process has it open.
  static Status purge(const std::string& directory);

  KernelDataplane(const KernelDataplane&) = delete;
  KernelDataplane& operator=(const KernelDataplane&) = delete;
  ~KernelDataplane() override;

  ProgramOutcome program(const state::DesiredState& desired, const std::string& node, const Network& network) override;
  Status update_ways(const Network& network) override;
  ProgramOutcome verify() override;
  Result<std::vector<AttachedInterface>> attach(const std::vector<InterfaceRequest>& interfaces) override;
  [[nodiscard]] std::vector<AttachedInterface> attached() const override;
  [[nodiscard]] std::vector<std::string> without_egress() const override;
  Result<NodeLink> keep_node_link(uint16_t mtu) override;
  Status attach_node_link() override;
  [[nodiscard]] NodeLinkPrograms node_link_programs() const override;
  Status lead_into_node_link(const NodeLink& link, const LedAddresses& addresses) override;
  [[nodiscard]] Result<net::IpAddress> own_address_towards(const net::IpAddress& to) const override;
  OwnedOutcome set_owned(const std::vector<OwnedAddress>& owned, std::chrono::nanoseconds valid_for) override;
  [[nodiscard]] Result<std::vector<OwnedAddress>> owned() const override;
  [[nodiscard]] std::optional<std::array<uint64_t, 2>> flow_hash_key() const override;
  [[nodiscard]] std::vector<Peer> peers() const override;
  [[nodiscard]] std::map<std::string, Proof> proofs() const override;
  Result<SweepOutcome> sweep(const IdleTimes& idle) override;
  [[nodiscard]] std::vector<TableUse> tables() const override;
  [[nodiscard]] std::vector<BackendRecord> backends() const override;
  [[nodiscard]] Result<Counters> counters() const override;
  // Nothing is open afterwards: every further call fails.
  Status purge() override;

 private:
  struct Open;
  explicit KernelDataplane(std::unique_ptr<Open> open);
  std::unique_ptr<Open> open_;  // nullptr after purge()
};

}  // namespace sluice::agent::dataplane
