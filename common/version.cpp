#include "common/version.h"

namespace sluice {

const char* version() {
  return SLUICE_VERSION;
}
const char* git_revision() {
  return SLUICE_GIT_REVISION;
}

}  // namespace sluice
