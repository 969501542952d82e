// Follows one file: also when it is replaced by rename, or through a symbolic link that is swapped (as ConfigMaps are).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/result.h"

namespace sluice::agent::config {

// The whole file as text. Fails where it cannot be read, is no regular file, or is larger than 64 MiB.
Result<std::string> read_file(const std::string& path);

class FileFollower {
 public:
  // Called from the follower's own thread with the text, each time it differs from the last one (beginning with
  // `known_text`), or with why it cannot be read, once for each new reason.
  using Callback = std::function<void(const Result<std::string>&)>;
  static Result<std::unique_ptr<FileFollower>> start(const std::string& path, std::string known_text,
                                                     Callback callback);
  virtual ~FileFollower() = default;  // joins the thread
};

}  // namespace sluice::agent::config
