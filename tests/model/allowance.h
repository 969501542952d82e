// How many answers may be sent: token buckets for each prefix that asks, and for all (on one CPU). The programs' clock
// ticks elsewhere, so there is a margin in which an answer may or may not come.
#pragma once

#include <chrono>
#include <map>
#include <optional>

#include "common/net/address.h"

namespace sluice::model {

class Allowance {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Says : uint8_t { yes, no, either };

  // Whether one more answer goes to this address now.
  Says ask(const net::IpAddress& to, Time now);
  // What became of it.
  void note(const net::IpAddress& to, bool answered);

 private:
  struct Bucket {
    double least = 0, most = 0;  // tokens
    Time filled;
  };
  static void fill(Bucket& bucket, Time now, double rate, double burst);
  // The part of an address that has a bucket of its own.
  static net::IpAddress prefix_of(const net::IpAddress& address);

  std::map<net::IpAddress, Bucket> prefixes_;
  std::optional<Bucket> all_;
};

}  // namespace sluice::model
