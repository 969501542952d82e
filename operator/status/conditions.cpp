#include "operator/status/conditions.h"

#include <algorithm>
#include <ctime>

#include "operator/resources/json_read.h"

namespace sluice::status {
namespace {

// A reason must be a word; one that came from elsewhere might not be.
std::string word(const std::string& reason) {
  std::string out;
  for (const char c : reason) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) out += c;
  }
  return out.empty() || std::isalpha(static_cast<unsigned char>(out.front())) == 0 ? "Other" + out : out;
}

// The schemas allow 32,768 characters, and one message beyond that would have the whole status refused. What people
// read ends long before.
std::string capped(const std::string& message) {
  constexpr size_t kMost = 4096;
  const auto inside = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; };  // of a UTF-8 character
  if (message.size() <= kMost) return message;
  size_t cut = kMost;
  while (cut > 0 && inside(message[cut])) --cut;
  const std::string rest = message.substr(cut);
  const auto more = std::ranges::count_if(rest, [&](char c) { return !inside(c); });
  return message.substr(0, cut) + "... and " + std::to_string(more) + " more characters";
}

}  // namespace

WantedCondition condition(std::string type, const planner::Finding& finding) {
  return {std::move(type), finding.good ? "True" : "False", finding.reason, finding.message};
}

std::string timestamp(std::chrono::system_clock::time_point wall) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(wall);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 32> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {text.data(), length};
}

Json condition_json(const WantedCondition& wanted, const resources::Condition* before, int64_t generation,
                    const std::string& now) {
  const bool same = before != nullptr && before->status == wanted.status && !before->last_transition_time.empty();
  Json out = {{"type", wanted.type},
              {"status", wanted.status},
              {"reason", word(wanted.reason)},
              {"message", capped(wanted.message)},
              {"lastTransitionTime", same ? before->last_transition_time : now}};
  if (generation != 0) out["observedGeneration"] = generation;
  return out;
}

Json condition_list(const std::vector<WantedCondition>& wanted, const Json& raw_before,
                    const std::vector<resources::Condition>& before, int64_t generation, const std::string& now) {
  Json out = Json::array();
  for (const WantedCondition& one : wanted) {
    out.push_back(condition_json(one, resources::find_condition(before, one.type), generation, now));
  }
  if (!raw_before.is_array()) return out;
  for (const Json& other : raw_before) {
    const std::string type = resources::json_read::text(other, "type");
    if (std::ranges::find(wanted, type, &WantedCondition::type) == wanted.end()) out.push_back(other);
  }
  return out;
}

Json status_patch(const Json& object, const Json& status) {
  const Json& before = member(object, "status");
  Json changed = Json::object();
  for (const auto& [name, value] : status.items()) {
    if (member(before, name) != value) changed[name] = value;
  }
  if (changed.empty()) return nullptr;
  return {
      {"metadata", {{"resourceVersion", resources::json_read::text(member(object, "metadata"), "resourceVersion")}}},
      {"status", std::move(changed)}};
}

const Json& member(const Json& object, std::string_view name) {
  return resources::json_read::member(object, name);
}

}  // namespace sluice::status
