#include "node-agent/ctl/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <thread>
#include <utility>

#include "node-agent/ctl/show.h"

namespace sluice::agent::ctl {
namespace {

constexpr const char* kBackends = "/v1/backends";
constexpr const char* kTunnels = "/v1/tunnels";
constexpr const char* kDrains = "/v1/drains";
constexpr std::chrono::milliseconds kLookEvery{1000};  // the agent counts no more often
constexpr size_t kNamed = 5;

class Run {
 public:
  Run(const Command& command, const Edges& edges, std::ostream& out, std::ostream& err)
      : command_(command), edges_(edges), out_(out), err_(err) {}

  int backends() {
    auto answer = edges_.ask(kBackends);
    if (!answer) return failed(answer.error());
    const Json meant = only(std::move(*answer), command_.service);
    if (!command_.service.empty() && meant.value("services", Json::array()).empty()) return no_such_service();
    show(meant, backends_text(meant, command_.output == Command::Output::wide));
    return backends_lack(meant) ? kFinding : 0;
  }

  int tunnels() {
    const auto answer = edges_.ask(kTunnels);
    if (!answer) return failed(answer.error());
    show(*answer, tunnels_text(*answer));
    return tunnels_lack(*answer) ? kFinding : 0;
  }

  int drain() {
    if (const auto all = edges_.ask(kBackends); !all) {
      return failed(all.error());
    } else if (only(*all, command_.service).value("services", Json::array()).empty()) {
      return no_such_service();
    }
    Left told;
    for (auto waited = std::chrono::milliseconds(0);; waited += kLookEvery) {
      auto answer = edges_.ask(kDrains);
      if (!answer) return failed(answer.error());
      const Json meant = only(std::move(*answer), command_.service);
      const Left left = left_of(meant);
      const bool patient = command_.timeout.count() == 0 || waited < command_.timeout;
      if (left.flows == 0 || !command_.wait || !patient) {
        show(meant, drains_text(meant));
        err_ << elsewhere(meant);
        if (left.flows != 0 && command_.wait) err_ << "flows are left after " << command_.timeout.count() << " s\n";
        return left.flows == 0 ? 0 : kFinding;
      }
      if (left.flows != told.flows || left.backends != told.backends) {
        err_ << fmt::format("waiting: {} flows of {} leaving backends\n", left.flows, left.backends) << std::flush;
      }
      told = left;
      edges_.pause(kLookEvery);
    }
  }

 private:
  void show(const Json& answer, const std::string& text) {
    out_ << (command_.output == Command::Output::json ? answer.dump(2) + "\n" : text);
  }

  int failed(const Error& error) {
    err_ << "sluicectl: " << error.message() << "\n";
    return kFinding;
  }

  int no_such_service() {
    err_ << "sluicectl: this node has no service " << command_.service << "\n";
    if (const auto all = edges_.ask(kBackends)) {
      size_t named = 0;
      for (const Json& service : all->value("services", Json::array())) {
        if (++named <= kNamed) err_ << (named == 1 ? "It has:\n  " : "  ") << service.value("service", "") << "\n";
      }
      if (named > kNamed) err_ << "  and " << named - kNamed << " more\n";
    }
    return kFinding;
  }

  const Command& command_;
  const Edges& edges_;
  std::ostream& out_;
  std::ostream& err_;
};

}  // namespace

void wait_a_moment(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(time);
}

int run(const Command& command, const Edges& edges, std::ostream& out, std::ostream& err) {
  Run runs(command, edges, out, err);
  switch (command.kind) {
    case Command::Kind::tunnels:
      return runs.tunnels();
    case Command::Kind::drain:
      return runs.drain();
    case Command::Kind::backends:
      break;
  }
  return runs.backends();
}

}  // namespace sluice::agent::ctl
