#include "node-agent/nexthop/network_watcher.h"

#include <linux/rtnetlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "common/log/spdlog.h"
#include "node-agent/nexthop/parse.h"
#include "node-agent/nexthop/rtnetlink.h"

namespace sluice::agent::nexthop {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kQuiet{20};        // changes of routes and links come in bursts
constexpr std::chrono::milliseconds kAskAgain{1'000};  // neighbours that did not answer; the kernel keeps the others
constexpr size_t kAskAtOnce = 64;                      // each question goes to every host of a segment
constexpr std::chrono::milliseconds kJust{100};        // between the two events of a neighbour that is flushed
constexpr std::chrono::milliseconds kAfterError{1'000};

class Watcher final : public NetworkWatcher {
 public:
  Watcher(Callback callback, const Abilities& can) : callback_(std::move(callback)), can_(can) {}
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;
  ~Watcher() override {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    wake();
    if (thread_.joinable()) thread_.join();
    if (wake_ >= 0) close(wake_);
  }

  Status begin() {
    wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) return fail_errno(errno, "follow", "the network");
    // Events first: what changes while the view is read is not missed then.
    auto events = connect_events(&on_event_);
    if (!events) return tl::unexpected(events.error());
    auto requests = connect_requests();
    if (!requests) return tl::unexpected(requests.error());
    events_ = std::move(*events);
    requests_ = std::move(*requests);
    if (auto read = refresh(); !read) return read;
    published_.view = view_;
    thread_ = std::thread([this] { run(); });
    return {};
  }

  void set_targets(Targets targets, std::set<uint32_t> usable) override {
    {
      const std::scoped_lock lock(mutex_);
      if (wanted_targets_ == targets && wanted_usable_ == usable) return;
      wanted_targets_ = std::move(targets);
      wanted_usable_ = std::move(usable);
      ++wanted_generation_;
    }
    wake();
  }

  Update wait(std::chrono::milliseconds patience) override {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [this] {
      return stop_ || (published_generation_ == wanted_generation_ && published_.ways.pending.empty());
    });
    return published_;
  }

 private:
  void wake() const {
    const uint64_t one = 1;
    std::ignore = write(wake_, &one, sizeof one);
  }

  // Reads everything but the ways again.
  Status refresh() {
    auto view = read_view(*requests_);
    if (!view) return tl::unexpected(view.error());
    auto neighbours = read_neighbours(*requests_);
    if (!neighbours) return tl::unexpected(neighbours.error());
    view_ = std::move(*view);
    for (const NeighbourKey& key : kept_) {
      const auto known = neighbours_.find(key);
      if (known == neighbours_.end() || !known->second.mac) continue;
      // As with one that was flushed: the last answer holds until the new one, or its failure, is there.
      Neighbour& now = (*neighbours)[key];
      if (!now.mac && !now.failed) now.mac = known->second.mac;
    }
    neighbours_ = std::move(*neighbours);
    routes_stale_ = true;
    return {};
  }

  void on_message(nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) {
      stale_ = true;
      return;
    }
    const auto change = parse_neighbour(message);
    if (!change || !kept_.contains(change->key)) return;
    Neighbour& known = neighbours_[change->key];
    if (change->deleted) {
      // Somebody flushed it, which the kernel tells as a failure first. The last answer holds until the new one, or its
      // failure, is there.
      const auto before = just_failed_.find(change->key);
      if (before != just_failed_.end() && Clock::now() - before->second.second < kJust)
        known.mac = before->second.first;
      known.failed = false;
      known.fixed = false;
      put_off_.insert(change->key);  // what follows may say that its link has gone
    } else if (change->neighbour.mac || change->neighbour.failed) {
      if (change->neighbour.failed && known.mac) just_failed_[change->key] = {*known.mac, Clock::now()};
      if (known.fixed && !change->neighbour.fixed) put_off_.insert(change->key);  // left to us from now on
      known = change->neighbour;
    }
    ways_stale_ = true;
  }

  // Neighbours that are wanted from now on: what the kernel has of them by now.
  void look_at(const std::set<NeighbourKey>& keys) {
    const auto now = read_neighbours(*requests_);
    if (!now) {
      spdlog::debug("{}", now.error().message());
      return;
    }
    for (const NeighbourKey& key : keys) {
      if (const auto found = now->find(key); found != now->end()) neighbours_[key] = found->second;
    }
  }

  // One that somebody has set would be nobody's, and fail, if the kernel were told to keep it resolved.
  [[nodiscard]] bool fixed(const NeighbourKey& key) const {
    const auto known = neighbours_.find(key);
    return known != neighbours_.end() && known->second.fixed;
  }

  void ask(const NeighbourKey& key) {
    if (fixed(key)) return;
    // What is sent into a link that is not up is lost, and the kernel would repeat it a second later only.
    const auto link = view_.links.find(key.ifindex);
    if (link != view_.links.end() && !link->second.up) {
      put_off_.insert(key);
      return;
    }
    if (auto asked = solicit(*requests_, key, true); !asked) spdlog::debug("{}", asked.error().message());
  }

  void run() {
    auto next_ask = Clock::now() + kAskAgain;
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next_ask - Clock::now()).count();
      std::array<pollfd, 2> waiting = {{{wake_, POLLIN, 0}, {nl_socket_get_fd(events_.get()), POLLIN, 0}}};
      poll(waiting.data(), waiting.size(), static_cast<int>(std::max<int64_t>(0, left)));
      uint64_t ignored = 0;
      std::ignore = read(wake_, &ignored, sizeof ignored);
      if (!take_targets()) return;
      if (waiting[1].revents != 0) read_events();
      if (Clock::now() >= next_ask) {
        ask_failed();
        next_ask = Clock::now() + kAskAgain;
      }
      if (stale_) {
        // One more look a moment later catches the rest of a burst in one go.
        std::this_thread::sleep_for(kQuiet);
        read_events();
        stale_ = false;
        if (auto read = refresh(); !read) {
          spdlog::warn("{}", read.error().message());
          stale_ = true;
          std::this_thread::sleep_for(kAfterError);
        } else {
          ask_failed();  // a link or an address that has come may lead to them
        }
      }
      for (const NeighbourKey& key : std::exchange(put_off_, {})) {
        if (kept_.contains(key)) ask(key);
      }
      update();
    }
  }

  // False: stop.
  bool take_targets() {
    const std::scoped_lock lock(mutex_);
    if (stop_) return false;
    if (generation_ != wanted_generation_) {
      generation_ = wanted_generation_;
      if (targets_ != wanted_targets_) routes_stale_ = true;
      targets_ = wanted_targets_;
      usable_ = wanted_usable_;
      ways_stale_ = true;
    }
    return true;
  }

  void read_events() {
    std::erase_if(just_failed_, [](const auto& one) { return Clock::now() - one.second.second >= kJust; });
    int code = 0;
    do {
      code = nl_recvmsgs_default(events_.get());  // one at a time
    } while (code >= 0);
    if (code != -NLE_AGAIN && code != -NLE_INTR) {
      // An overrun: something was missed, so nothing that is remembered can be trusted.
      spdlog::debug("rtnetlink: {}", nl_geterror(code));
      stale_ = true;
    }
  }

  // In turn, where there are many.
  void ask_failed() {
    auto next = kept_.upper_bound(asked_last_);
    size_t asked = 0;
    for (size_t looked_at = 0; looked_at < kept_.size() && asked < kAskAtOnce; ++looked_at) {
      if (next == kept_.end()) next = kept_.begin();
      const auto known = neighbours_.find(*next);
      if (known == neighbours_.end() || !known->second.mac) {
        ask(*next);
        asked_last_ = *next;
        ++asked;
      }
      ++next;
    }
  }

  void update() {
    if (routes_stale_) {
      routes_.clear();
      for (const auto& [address, on_this_node] : targets_) routes_.emplace(address, look_up_route(*requests_, address));
      routes_stale_ = false;
      ways_stale_ = true;
    }
    if (ways_stale_) {
      const std::set<NeighbourKey> needed = needed_neighbours(targets_, routes_, view_, usable_);
      for (const NeighbourKey& key : kept_) {
        if (!needed.contains(key) && !fixed(key)) std::ignore = solicit(*requests_, key, false);
      }
      std::set<NeighbourKey> added;
      std::ranges::set_difference(needed, kept_, std::inserter(added, added.end()));
      if (!added.empty()) look_at(added);
      for (const NeighbourKey& key : added) ask(key);
      kept_ = needed;
      ways_stale_ = false;
    }
    publish({view_, find_ways(targets_, routes_, neighbours_, view_, usable_, can_)});
  }

  void publish(const Update& update) {
    {
      const std::scoped_lock lock(mutex_);
      const bool same = update == published_;
      const bool same_generation = published_generation_ == generation_;
      published_generation_ = generation_;
      if (same && same_generation) return;
      published_ = update;
    }
    changed_.notify_all();
    callback_(update);
  }

  Callback callback_;
  Abilities can_;
  int wake_ = -1;
  Socket events_;
  Socket requests_;
  std::function<void(nlmsghdr*)> on_event_ = [this](nlmsghdr* message) { on_message(message); };

  // The thread's own.
  NetworkView view_;
  std::map<NeighbourKey, Neighbour> neighbours_;
  std::map<net::IpAddress, Route> routes_;
  Targets targets_;
  std::set<uint32_t> usable_;
  std::set<NeighbourKey> kept_;
  std::map<NeighbourKey, std::pair<dataplane::Mac, Clock::time_point>> just_failed_;  // what they had before, and when
  std::set<NeighbourKey> put_off_;  // to be asked once their link is up
  NeighbourKey asked_last_;
  uint64_t generation_ = 0;
  bool stale_ = false;
  bool routes_stale_ = false;
  bool ways_stale_ = false;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  Targets wanted_targets_;
  std::set<uint32_t> wanted_usable_;
  uint64_t wanted_generation_ = 0;
  uint64_t published_generation_ = 0;
  Update published_;
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<NetworkWatcher>> NetworkWatcher::start(Callback callback, const Abilities& can) {
  auto watcher = std::make_unique<Watcher>(std::move(callback), can);
  if (auto begun = watcher->begin(); !begun) return tl::unexpected(begun.error());
  return std::unique_ptr<NetworkWatcher>(std::move(watcher));
}

}  // namespace sluice::agent::nexthop
