#include "node-agent/ctl/show.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "node-agent/ctl/table.h"

namespace sluice::agent::ctl {
namespace {

std::vector<std::string> parts_of(const std::string& id) {
  std::vector<std::string> parts;
  size_t from = 0;
  for (auto slash = id.find('/'); slash != std::string::npos; slash = id.find('/', from)) {
    parts.push_back(id.substr(from, slash - from));
    from = slash + 1;
  }
  parts.push_back(id.substr(from));
  return parts;
}

const Json& list(const Json& object, const char* name) {
  static const Json none = Json::array();
  const auto found = object.find(name);
  return found == object.end() || !found->is_array() ? none : *found;
}

// As it is said; empty: it is not.
std::string text(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return "";
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string joined(const Json& texts) {
  std::string out;
  for (const Json& one : texts) out += (out.empty() ? "" : ",") + one.get<std::string>();
  return out;
}

std::string percent(const Json& object, const char* name) {
  return fmt::format("{:.1f}%", 100 * object.value(name, 0.0));
}

std::string hop_text(const Json& backend) {
  const auto hop = backend.find("nextHop");
  if (hop == backend.end() || hop->contains("why")) return "";
  const std::string gateway = text(*hop, "gateway");
  return text(*hop, "device") + (gateway.empty() ? "" : " via " + gateway);
}

std::string why_text(const Json& backend) {
  std::string why = text(backend, "reason");
  const auto hop = backend.find("nextHop");
  const std::string no_way = hop == backend.end() ? "" : text(*hop, "why");
  if (!no_way.empty()) why += (why.empty() ? "no way: " : "; no way: ") + no_way;
  return why;
}

// As kubectl tells ages: one unit, two where the first is small.
std::string age_text(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) return "";
  const double seconds = std::max(0.0, found->get<double>());
  if (seconds < 10) return fmt::format("{:.1f}s", seconds);
  constexpr int64_t kMinute = 60;
  constexpr int64_t kHour = 60 * kMinute;
  const auto whole = static_cast<int64_t>(std::floor(seconds));
  if (whole < 2 * kMinute) return fmt::format("{}s", whole);
  const int64_t rest = whole % kMinute;
  if (whole < 10 * kMinute && rest != 0) return fmt::format("{}m{}s", whole / kMinute, rest);
  if (whole < 3 * kHour) return fmt::format("{}m", whole / kMinute);
  if (whole < 48 * kHour) return fmt::format("{}h", whole / kHour);
  return fmt::format("{}d", whole / (24 * kHour));
}

const char* counted_text(const std::string& counted) {
  if (counted == "here") return "exact";
  return counted == "there" ? "those by nat" : "seen within the idle time";
}

}  // namespace

bool is_meant(const std::string& id, const std::string& typed) {
  const auto parts = parts_of(id);
  const auto wanted = parts_of(typed);
  return std::search(parts.begin(), parts.end(), wanted.begin(), wanted.end()) != parts.end();
}

Json only(Json answer, const std::string& typed) {
  if (typed.empty() || !answer.contains("services")) return answer;
  Json kept = Json::array();
  for (Json& service : answer["services"]) {
    if (is_meant(text(service, "service"), typed)) kept.push_back(std::move(service));
  }
  answer["services"] = std::move(kept);
  return answer;
}

std::string backends_text(const Json& answer, bool wide) {
  std::vector<std::string> header = {"SERVICE", "FRONTENDS", "BACKEND", "NODE",     "WEIGHT",
                                     "SHARE",   "STATE",     "WAY",     "NEXT-HOP", "MTU"};
  if (wide) header.insert(header.end(), {"PROTOCOL", "FORWARDING", "GROUP", "MAC"});
  header.emplace_back("WHY");
  Table table(header);
  std::string failures;
  for (const Json& service : list(answer, "services")) {
    const std::string id = text(service, "service");
    const std::string frontends = joined(list(service, "frontends"));
    if (const std::string failure = text(service, "failure"); !failure.empty()) failures += id + ": " + failure + "\n";
    const auto add = [&](const Json& backend, const std::string& why) {
      const bool none = backend.empty();
      std::vector<std::string> row = {id,
                                      frontends,
                                      text(backend, "address"),
                                      text(backend, "node"),
                                      text(backend, "weight"),
                                      none ? "" : percent(backend, "share"),
                                      text(backend, "state"),
                                      text(backend, "way"),
                                      hop_text(backend),
                                      text(backend, "mtu")};
      if (wide) {
        const std::string mac = backend.contains("nextHop") ? text(backend["nextHop"], "mac") : "";
        row.insert(row.end(), {text(service, "protocol"), text(service, "forwarding"), text(backend, "group"), mac});
      }
      row.push_back(why);
      table.add(std::move(row));
    };
    if (list(service, "backends").empty()) add(Json::object(), "there are no backends");
    for (const Json& backend : list(service, "backends")) add(backend, why_text(backend));
  }
  if (list(answer, "services").empty()) return "no services\n";
  return table.text() + (failures.empty() ? "" : "\n" + failures);
}

std::string tunnels_text(const Json& answer) {
  if (list(answer, "tunnels").empty()) return "no tunnels: no backend is on another node that one could lead to\n";
  Table table({"NODE", "ADDRESS", "PROVED", "SINCE", "LAST-PROOF", "KEY", "MTU", "FITS-IPV4", "FITS-IPV6", "WHY-NOT"});
  for (const Json& tunnel : list(answer, "tunnels")) {
    const bool proved = tunnel.value("proved", false);
    const Json fits = tunnel.value("fits", Json::object());
    const auto size = [](const Json& object, const char* name) {
      const std::string bytes = text(object, name);
      return bytes == "0" ? std::string() : bytes;
    };
    table.add({text(tunnel, "node"), text(tunnel, "address"), proved ? "yes" : "no", age_text(tunnel, "sinceSeconds"),
               age_text(tunnel, "lastProofSeconds"), text(tunnel, "key"), size(tunnel, "mtu"), size(fits, "ipv4"),
               size(fits, "ipv6"), text(tunnel, "why")});
  }
  return table.text();
}

std::string drains_text(const Json& answer) {
  if (list(answer, "services").empty()) return "no backend is leaving\n";
  Table table({"SERVICE", "BACKEND", "NODE", "WAY", "FLOWS", "COUNTED"});
  for (const Json& service : list(answer, "services")) {
    for (const Json& backend : list(service, "backends")) {
      table.add({text(service, "service"), text(backend, "address"), text(backend, "node"), text(backend, "way"),
                 text(backend, "flows"), counted_text(text(backend, "counted"))});
    }
  }
  return table.text();
}

bool backends_lack(const Json& answer) {
  return std::ranges::any_of(list(answer, "services"), [](const Json& service) {
    return service.contains("failure") || std::ranges::any_of(list(service, "backends"), [](const Json& backend) {
             return backend.contains("nextHop") && backend["nextHop"].contains("why");
           });
  });
}

bool tunnels_lack(const Json& answer) {
  return std::ranges::any_of(list(answer, "tunnels"),
                             [](const Json& tunnel) { return !tunnel.value("proved", false); });
}

Left left_of(const Json& answer) {
  Left left;
  for (const Json& service : list(answer, "services")) {
    for (const Json& backend : list(service, "backends")) {
      const auto flows = backend.value("flows", uint64_t{0});
      left.flows += flows;
      left.backends += flows == 0 ? 0 : 1;
    }
  }
  return left;
}

std::string elsewhere(const Json& answer) {
  std::set<std::string> nodes;
  for (const Json& service : list(answer, "services")) {
    for (const Json& backend : list(service, "backends")) {
      if (text(backend, "counted") == "there") nodes.insert(text(backend, "node"));
    }
  }
  if (nodes.empty()) return "";
  return fmt::format("flows through tunnels are counted where the backend runs, not here: ask on {}\n",
                     fmt::join(nodes, ", "));
}

}  // namespace sluice::agent::ctl
