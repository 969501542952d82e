// What a reflector does next, given what has just happened: the upstream client's rules for LIST and WATCH, and three
// departures that spare the API server or the user (marked below). Pure: no I/O, no clock; time comes in.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "common/result.h"
#include "operator/kube/backoff.h"
#include "operator/kube/transport.h"

namespace sluice::kube {

// Why a LIST or WATCH did not give what it was asked for.
struct WatchFailure {
  int code = 0;                    // HTTP status, or the code of an ERROR event's Status; 0: no answer, or it broke off
  bool too_large_version = false;  // "too large resource version": a 504 (or 500) that is none
  std::chrono::milliseconds retry_after{0};
  std::string text;
};
WatchFailure failure_of(const Response& response);
WatchFailure failure_of(const Error& error);
WatchFailure failure_of_status(const nlohmann::json& status);  // an ERROR event's object

struct WatchTuning {
  Backoff::Limits backoff;
  std::chrono::milliseconds watch_timeout_min{300'000};
  std::chrono::milliseconds watch_timeout_max{600'000};
  std::chrono::milliseconds short_watch{1'000};       // an uneventful watch that ends sooner is an error
  std::chrono::milliseconds silence{180'000};         // no event nor bookmark: ask for the server's version
  std::chrono::milliseconds check_timeout{10'000};    // for that answer
  std::chrono::milliseconds head_patience{30'000};    // a watch that has not even a status after so long is given up
  std::chrono::milliseconds stream_patience{60'000};  // a streamed list that says nothing for so long is given up
  std::chrono::milliseconds missing_retry{5'000};     // pause while the server does not know the resource
  std::chrono::milliseconds missing_grace{60'000};    // before known objects are forgotten for that
  int server_errors = 3;                              // 5xx in a row before a watch is given up for a relist
};

struct WatchStep {
  enum class Do {
    list,         // LIST at `version` ("0", a version, or empty: consistent, in pages)
    stream_list,  // WATCH with sendInitialEvents, NotOlderThan `version` (empty: consistent), which goes on as a watch
    watch,        // WATCH from `version` for `timeout`
    check_version,  // consistent LIST with limit=1: is the server's version older than ours?
  };
  Do what = Do::list;
  std::string version;
  std::chrono::milliseconds wait{0};     // before it
  std::chrono::milliseconds timeout{0};  // of watches
  bool forget = false;                   // first of all: the store becomes empty, and counts as complete
  std::string reason;                    // for metrics: what led here
};

class WatchRules {
 public:
  using Clock = std::chrono::steady_clock;
  WatchRules(WatchTuning tuning, bool streaming_lists, uint64_t seed);

  WatchStep first();
  // A list is complete. After a streamed one the same stream goes on as a watch, and only the version is taken note of.
  WatchStep listed(const std::string& version);
  WatchStep list_failed(const WatchFailure& failure, Clock::time_point now);
  // An event or a bookmark arrived, and with it a version.
  void heard(const std::string& version);
  // The watch's body ended in order.
  WatchStep watch_closed(Clock::duration lasted, uint64_t lines, Clock::time_point now);
  // It was refused, broke off (code 0), or said ERROR.
  WatchStep watch_failed(const WatchFailure& failure, Clock::time_point now);
  // The answer to check_version. `server` older than ours: a store restored from a backup.
  WatchStep checked(const std::string& server);
  WatchStep check_failed(const WatchFailure& failure, Clock::time_point now);

  [[nodiscard]] const std::string& version() const { return version_; }
  [[nodiscard]] const WatchTuning& tuning() const { return tuning_; }

 private:
  WatchStep relist(std::string reason, std::chrono::milliseconds wait);
  WatchStep watch(std::string reason, std::chrono::milliseconds wait);
  WatchStep check(std::string reason, std::chrono::milliseconds wait);
  std::chrono::milliseconds pause(const WatchFailure& failure, Clock::time_point now);

  WatchTuning tuning_;
  Backoff backoff_;
  bool streaming_;           // the server has streamed lists, as far as we know
  bool plain_next_ = false;  // the next list is a plain one
  bool unusable_ = false;    // version_ cannot be asked for: ask for the newest
  int server_errors_ = 0;    // in a row
  std::string version_;      // the last one seen; empty: none yet
  std::string attempted_;    // of the list under way
  std::optional<Clock::time_point> missing_since_;
};

}  // namespace sluice::kube
