// The directory in bpffs where maps and links are pinned, and its layout. Internal to dataplane/.
//
//   <directory>/v<layout>/maps/<map>
//   <directory>/v<layout>/links/xdp-<interface>
//   <directory>/v<layout>/stages/xdp-<interface>~<map id>
//   <directory>/v<layout>/stages/stack~<map id>
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/result.h"

namespace sluice::agent::dataplane {

// "<directory>/v<SLUICE_LAYOUT_VERSION>"
std::string layout_directory(const std::string& directory);

// As fail_errno. Root needs no capability to write to its own bpffs: where it may not, a security module forbids it
// (cause BpfRefused).
tl::unexpected<Error> fail_on_bpffs(int error_number, std::string operation, std::string object);

// Whether the directory, or the nearest one above it that is there, lies on a bpffs.
bool on_bpffs(const std::string& directory);

// Makes sure that `directory` lies on a bpffs and holds this layout's directories. Mounts one where there is none: on
// /sys/fs/bpf for directories below it, on the directory itself elsewhere.
Status prepare_directory(const std::string& directory);

// The directories of this and other layouts below `directory`; none where it does not exist.
std::vector<std::string> layout_directories(const std::string& directory);

// The names in a directory; none where it does not exist.
std::vector<std::string> entries(const std::string& path);

// Removes pins and directories, as deep as it goes. What is not there is fine.
Status remove_tree(const std::string& path);
Status unpin(const std::string& path);

// Pins what `fd` is, in the place of what was pinned there.
Status pin(int fd, const std::string& path);

// "xdp-eth0%2e100": names in bpffs have no dots.
std::string link_pin_name(const std::string& interface);
// The interface of such a name; empty for other names.
std::string interface_of_link_pin(const std::string& name);

// What leads the programs of one interface to each other: "xdp-eth0~4711".
std::string stages_pin_name(const std::string& interface, uint32_t map_id);
std::string interface_of_stages_pin(const std::string& name);
// The same of the programs for the node's own network stack: "stack~4711".
std::string stack_stages_pin_name(uint32_t map_id);

}  // namespace sluice::agent::dataplane
