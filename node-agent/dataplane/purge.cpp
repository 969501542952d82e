#include "node-agent/dataplane/purge.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "node-agent/dataplane/attachments.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/device.h"
#include "node-agent/dataplane/node_link.h"
#include "node-agent/dataplane/tc.h"

namespace sluice::agent::dataplane {
namespace {

// Also where the link that went with them is gone.
Status clear_classifiers() {
  const auto names = device_names();
  if (!names) {
    return tl::unexpected(names.error());
  }
  for (const auto& [ifindex, name] : *names) {
    if (Status off = detach_classifiers(ifindex, name); !off) {
      return off;
    }
  }
  return {};
}

}  // namespace

Result<Fd> lock_directory(const std::string& directory) {
  Fd lock(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock) {
    return fail_on_bpffs(errno, "open", directory);
  }
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? fail(ErrorKind::conflict, "use", directory, "another process has it open")
                                : fail_on_bpffs(errno, "lock", directory);
  }
  return lock;
}

Status purge_all(const std::string& directory) {
  Attachments attachments(directory);
  if (Status found = attachments.find(); !found) {
    return found;
  }
  if (Status detached = attachments.detach_all(); !detached) {
    return detached;
  }
  if (Status cleared = clear_classifiers(); !cleared) {
    return cleared;
  }
  if (Status removed = remove_node_link(); !removed) {
    return removed;
  }
  return remove_layouts(directory);
}

Status remove_layouts(const std::string& directory) {
  for (const auto& layout : layout_directories(directory)) {
    if (Status removed = remove_tree(layout); !removed) {
      return removed;
    }
  }
  // Left alone where it holds something of others, or is a mount's root.
  if (rmdir(directory.c_str()) != 0 && errno != ENOENT && errno != ENOTEMPTY && errno != EBUSY) {
    return fail_on_bpffs(errno, "remove", directory);
  }
  return {};
}

}  // namespace sluice::agent::dataplane
