#include "node-agent/dataplane/bpffs.h"

#include <bpf/bpf.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>

#include "bpf/sluice.h"
#include "node-agent/dataplane/causes.h"

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kSystemBpffs = "/sys/fs/bpf";
constexpr const char* kLinkPrefix = "xdp-";

Status make_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_on_bpffs(errno, "make directory", path);
  }
  return {};
}

Status make_directories(const std::string& path) {
  std::filesystem::path so_far;
  for (const auto& part : std::filesystem::path(path)) {
    so_far /= part;
    std::error_code ignored;
    if (!std::filesystem::exists(so_far, ignored)) {
      if (Status made = make_directory(so_far); !made) {
        return made;
      }
    }
  }
  return {};
}

std::filesystem::path nearest_existing(const std::string& path) {
  std::filesystem::path nearest = path;
  std::error_code ignored;
  while (!std::filesystem::exists(nearest, ignored) && nearest.has_relative_path()) {
    nearest = nearest.parent_path();
  }
  return nearest;
}

Status mount_bpffs(const std::string& directory) {
  const bool below_system = directory.rfind(std::string(kSystemBpffs) + "/", 0) == 0;
  const std::string place = below_system ? kSystemBpffs : directory;
  if (!below_system) {
    if (Status made = make_directories(place); !made) {
      return because(cause::kNoBpffs, tl::unexpected(made.error()));
    }
  }
  if (mount("bpf", place.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
    auto failed = fail_errno(errno, "mount a bpffs on", place);
    failed.value().reason += "; mount one there on the host (mount -t bpf bpf " + place + ") and let the agent see it";
    return because(cause::kNoBpffs, failed);
  }
  return {};
}

}  // namespace

tl::unexpected<Error> fail_on_bpffs(int error_number, std::string operation, std::string object) {
  auto failed = fail_errno(error_number, std::move(operation), std::move(object));
  return failed.value().kind == ErrorKind::denied ? because(cause::kBpfRefused, failed) : failed;
}

bool on_bpffs(const std::string& directory) {
  struct statfs info {};
  return statfs(nearest_existing(directory).c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

std::string layout_directory(const std::string& directory) {
  return directory + "/v" + std::to_string(SLUICE_LAYOUT_VERSION);
}

Status prepare_directory(const std::string& directory) {
  if (!on_bpffs(directory)) {
    if (Status mounted = mount_bpffs(directory); !mounted) {
      return mounted;
    }
  }
  const std::string layout = layout_directory(directory);
  for (const auto& path : {layout + "/maps", layout + "/links", layout + "/stages"}) {
    if (Status made = make_directories(path); !made) {
      return made;
    }
  }
  return {};
}

std::vector<std::string> entries(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    names.push_back(entry.path().filename());
  }
  return names;
}

std::vector<std::string> layout_directories(const std::string& directory) {
  std::vector<std::string> layouts;
  for (const auto& name : entries(directory)) {
    if (name.size() > 1 && name[0] == 'v' && name.find_first_not_of("0123456789", 1) == std::string::npos) {
      layouts.push_back(std::filesystem::path(directory) / name);
    }
  }
  return layouts;
}

Status remove_tree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error && error != std::errc::no_such_file_or_directory) {
    return fail_on_bpffs(error.value(), "remove", path);
  }
  return {};
}

Status unpin(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail_on_bpffs(errno, "unpin", path);
  }
  return {};
}

Status pin(int fd, const std::string& path) {
  // By way of another name: a reader of the directory finds the old or the new.
  const std::string fresh = path + "~new";
  if (Status gone = unpin(fresh); !gone) {
    return gone;
  }
  if (bpf_obj_pin(fd, fresh.c_str()) != 0) {
    return fail_on_bpffs(errno, "pin", path);
  }
  if (rename(fresh.c_str(), path.c_str()) != 0) {
    const int error = errno;
    unlink(fresh.c_str());
    return fail_on_bpffs(error, "pin", path);
  }
  return {};
}

std::string link_pin_name(const std::string& interface) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string name = kLinkPrefix;
  for (const char c : interface) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_') {
      name += c;
    } else {
      name += '%';
      name += kHex[byte >> 4];
      name += kHex[byte & 15];
    }
  }
  return name;
}

std::string interface_of_link_pin(const std::string& name) {
  const std::string prefix = kLinkPrefix;
  if (name.rfind(prefix, 0) != 0) {
    return "";
  }
  std::string interface;
  for (size_t i = prefix.size(); i < name.size(); ++i) {
    unsigned int byte = 0;
    if (name[i] == '%' && i + 2 < name.size() &&
        std::from_chars(&name[i + 1], &name[i + 3], byte, 16).ptr == &name[i + 3]) {
      interface += static_cast<char>(byte);
      i += 2;
    } else {
      interface += name[i];
    }
  }
  return link_pin_name(interface) == name ? interface : "";
}

std::string stages_pin_name(const std::string& interface, uint32_t map_id) {
  return link_pin_name(interface) + "~" + std::to_string(map_id);
}

std::string stack_stages_pin_name(uint32_t map_id) {
  return "stack~" + std::to_string(map_id);
}

std::string interface_of_stages_pin(const std::string& name) {
  return interface_of_link_pin(name.substr(0, name.find('~')));
}

}  // namespace sluice::agent::dataplane
