#include "common/process/termination.h"

#include <unistd.h>

#include <csignal>

namespace sluice::process {

namespace {

sigset_t termination_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

Status prepare_signals() {
  const sigset_t signals = termination_signals();
  if (const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) {
    return fail_errno(error, "block signals", "");
  }
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  if (sigaction(SIGPIPE, &ignore, nullptr) != 0) return fail_errno(errno, "ignore", "SIGPIPE");
  return {};
}

Result<int> wait_for_termination() {
  const sigset_t signals = termination_signals();
  int signal = 0;
  int error = 0;
  do {
    error = sigwait(&signals, &signal);
  } while (error == EINTR);
  if (error != 0) return fail_errno(error, "wait for a signal", "");
  return signal;
}

void request_termination() {
  kill(getpid(), SIGTERM);
}

}  // namespace sluice::process
