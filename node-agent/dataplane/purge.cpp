#include "node-agent/dataplane/purge.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "node-agent/dataplane/attachments.h"
#include "node-agent/dataplane/bpffs.h"
#include "node-agent/dataplane/tc.h"

namespace sluice::agent::dataplane {
namespace {

struct NamesDeleter {
  void operator()(struct if_nameindex* names) const { if_freenameindex(names); }
};

// Also where the link that went with it is gone.
Status clear_egress() {
  const std::unique_ptr<struct if_nameindex, NamesDeleter> names(::if_nameindex());
  if (names == nullptr) {
    return fail_errno(errno, "list interfaces", "");
  }
  for (const struct if_nameindex* name = names.get(); name->if_index != 0; ++name) {
    if (Status off = detach_egress(name->if_index, name->if_name); !off) {
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
  if (Status cleared = clear_egress(); !cleared) {
    return cleared;
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
