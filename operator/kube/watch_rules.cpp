#include "operator/kube/watch_rules.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "operator/kube/json_text.h"
#include "operator/kube/object.h"

namespace sluice::kube {
namespace {

constexpr int kUnauthorized = 401;
constexpr int kForbidden = 403;
constexpr int kNotFound = 404;
constexpr int kGone = 410;
constexpr int kTooManyRequests = 429;

bool server_error(int code) {
  return code >= 500;
}
bool not_permitted(int code) {
  return code == kUnauthorized || code == kForbidden;
}

std::string name_of(const WatchFailure& failure) {
  if (failure.too_large_version) return "version_too_large";
  switch (failure.code) {
    case 0:
      return "broken";
    case kUnauthorized:
      return "unauthorized";
    case kForbidden:
      return "forbidden";
    case kNotFound:
      return "not_found";
    case kGone:
      return "expired";
    case kTooManyRequests:
      return "throttled";
    default:
      return server_error(failure.code) ? "server_error" : "refused";
  }
}

}  // namespace

WatchFailure failure_of_status(const nlohmann::json& status) {
  WatchFailure failure;
  if (!status.is_object()) return {500, false, {}, "an error without a Status"};
  const auto code = status.find("code");
  failure.code = code != status.end() && code->is_number_integer() ? code->get<int>() : 500;
  const auto text = [&status](const char* name) {
    const auto found = status.find(name);
    return found != status.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  failure.text = text("message");
  const std::string reason = text("reason");
  if (reason == "Expired" || reason == "Gone") failure.code = kGone;
  failure.too_large_version = failure.text.find("Too large resource version") != std::string::npos;
  const auto details = status.find("details");
  if (details == status.end() || !details->is_object()) return failure;
  const auto seconds = details->find("retryAfterSeconds");
  if (seconds != details->end() && seconds->is_number_integer()) {
    failure.retry_after = std::chrono::seconds(std::clamp<int64_t>(seconds->get<int64_t>(), 0, 3600));
  }
  const auto causes = details->find("causes");
  if (causes == details->end() || !causes->is_array()) return failure;
  for (const auto& cause : *causes) {
    if (cause.is_object() && cause.value("reason", nlohmann::json()) == "ResourceVersionTooLarge") {
      failure.too_large_version = true;
    }
  }
  return failure;
}

WatchFailure failure_of(const Response& response) {
  const auto body = parse_json(response.body);
  WatchFailure failure;
  if (body.is_object()) failure = failure_of_status(body);
  if (response.status != 0) failure.code = failure.code == kGone ? kGone : response.status;
  if (failure.text.empty()) {
    failure.text = response.status == kNotFound ? "the server does not know this resource"
                                                : "HTTP status " + std::to_string(response.status);
  }
  if (response.retry_after)
    failure.retry_after = std::max<std::chrono::milliseconds>(failure.retry_after, *response.retry_after);
  return failure;
}

WatchFailure failure_of(const Error& error) {
  return {0, false, error.retry_after, error.message()};
}

WatchRules::WatchRules(WatchTuning tuning, bool streaming_lists, uint64_t seed)
    : tuning_(tuning), backoff_(tuning.backoff, seed), streaming_(streaming_lists) {}

std::chrono::milliseconds WatchRules::pause(const WatchFailure& failure, Clock::time_point now) {
  return std::max(backoff_.next(now), failure.retry_after);
}

WatchStep WatchRules::relist(std::string reason, std::chrono::milliseconds wait) {
  WatchStep step;
  step.wait = wait;
  step.reason = std::move(reason);
  step.timeout =
      std::chrono::milliseconds(backoff_.between(tuning_.watch_timeout_min.count(), tuning_.watch_timeout_max.count()));
  if (streaming_ && !plain_next_) {
    step.what = WatchStep::Do::stream_list;
    step.version = unusable_ ? "" : version_;
  } else {
    step.what = WatchStep::Do::list;
    step.version = unusable_ ? "" : version_.empty() ? "0" : version_;
  }
  attempted_ = step.version;
  return step;
}

WatchStep WatchRules::watch(std::string reason, std::chrono::milliseconds wait) {
  WatchStep step;
  step.what = WatchStep::Do::watch;
  step.version = version_;
  step.wait = wait;
  step.timeout =
      std::chrono::milliseconds(backoff_.between(tuning_.watch_timeout_min.count(), tuning_.watch_timeout_max.count()));
  step.reason = std::move(reason);
  return step;
}

WatchStep WatchRules::check(std::string reason, std::chrono::milliseconds wait) {
  WatchStep step;
  step.what = WatchStep::Do::check_version;
  step.wait = wait;
  step.reason = std::move(reason);
  return step;
}

WatchStep WatchRules::first() {
  return relist("first", std::chrono::milliseconds(0));
}

WatchStep WatchRules::listed(const std::string& version) {
  version_ = version;
  unusable_ = false;
  plain_next_ = false;
  missing_since_.reset();
  server_errors_ = 0;
  return watch("listed", std::chrono::milliseconds(0));
}

void WatchRules::heard(const std::string& version) {
  if (!version.empty()) version_ = version;
  server_errors_ = 0;
}

WatchStep WatchRules::list_failed(const WatchFailure& failure, Clock::time_point now) {
  const bool streamed = streaming_ && !plain_next_;
  if (failure.code != kNotFound) missing_since_.reset();
  // Before the rule for 5xx: it comes as a 504.
  if (failure.too_large_version || failure.code == kGone) {
    const bool again = !attempted_.empty();  // with an empty version there is nothing left to leave out
    unusable_ = true;
    return relist(name_of(failure), again ? std::chrono::milliseconds(0) : pause(failure, now));
  }
  if (failure.code == kNotFound) {
    // The CRD is not there (yet): an empty list. Departure: objects that are known are kept for a while, since an API
    // server that is starting may say so of a CRD it has not read.
    if (!missing_since_) missing_since_ = now;
    const bool forget = version_.empty() || now - *missing_since_ >= tuning_.missing_grace;
    if (forget) version_.clear();
    WatchStep step = relist(name_of(failure), std::max(tuning_.missing_retry, failure.retry_after));
    step.forget = forget;
    return step;
  }
  if (streamed && failure.code != 0 && failure.code != kTooManyRequests) {
    plain_next_ = true;
    // The server says that it cannot, not that it may not or is ill: do not ask again.
    if (!server_error(failure.code) && !not_permitted(failure.code)) streaming_ = false;
    return relist(name_of(failure), pause(failure, now));
  }
  return relist(name_of(failure), pause(failure, now));
}

WatchStep WatchRules::watch_closed(Clock::duration lasted, uint64_t lines, Clock::time_point now) {
  if (lines == 0 && lasted < tuning_.short_watch) return watch("short", backoff_.next(now));
  return watch("clean", std::chrono::milliseconds(0));
}

WatchStep WatchRules::watch_failed(const WatchFailure& failure, Clock::time_point now) {
  const std::string reason = name_of(failure);
  if (failure.too_large_version) {
    unusable_ = true;
    return relist(reason, pause(failure, now));
  }
  // A watch at a version from the future gets neither error nor events, and after an outage the server may be one
  // restored from a backup: look before watching on.
  if (failure.code == 0) return check(reason, pause(failure, now));
  if (failure.code == kTooManyRequests || not_permitted(failure.code)) return watch(reason, pause(failure, now));
  // Departure: upstream relists on 5xx at once; asking a few times more at our version spares an API server in trouble.
  if (server_error(failure.code) && ++server_errors_ <= tuning_.server_errors) {
    return check(reason, pause(failure, now));
  }
  server_errors_ = 0;
  return relist(reason, pause(failure, now));
}

WatchStep WatchRules::checked(const std::string& server) {
  if (!older_version(server, version_).value_or(false)) return watch("checked", std::chrono::milliseconds(0));
  version_.clear();
  unusable_ = true;
  return relist("restored", std::chrono::milliseconds(0));
}

WatchStep WatchRules::check_failed(const WatchFailure& failure, Clock::time_point now) {
  if (failure.code == kNotFound || failure.code == kGone) return relist(name_of(failure), pause(failure, now));
  return check(name_of(failure), pause(failure, now));
}

}  // namespace sluice::kube
