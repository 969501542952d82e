// Questions to and orders for the kernel over rtnetlink, many in one go. Internal to dataplane/.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "common/net/address.h"
#include "common/result.h"
#include "node-agent/dataplane/fd.h"

namespace sluice::agent::dataplane {

// One message, put together. `head` is the struct that the type has behind its header (rtmsg, ifinfomsg, ...).
class RouteMessage {
 public:
  template <typename Head>
  RouteMessage(uint16_t type, uint16_t flags, const Head& head) : RouteMessage(type, flags, &head, sizeof head) {}

  void put(uint16_t type, const void* data, size_t bytes);
  void put(uint16_t type, uint8_t value) { put(type, &value, sizeof value); }
  void put(uint16_t type, uint32_t value) { put(type, &value, sizeof value); }
  void put(uint16_t type, std::string_view text);  // with the zero behind it
  void put(uint16_t type, const net::IpAddress& address) { put(type, address.bytes().data(), address.size()); }
  // What is put by `inside` lies in this attribute, behind `bytes` of `head`.
  void nest(uint16_t type, const std::function<void()>& inside, const void* head = nullptr, size_t bytes = 0);

  [[nodiscard]] const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  friend class RouteSocket;
  RouteMessage(uint16_t type, uint16_t flags, const void* head, size_t bytes);
  std::vector<uint8_t> bytes_;  // the header's length is set when it is sent
};

// The attributes of a message, by type; those of type beyond `most` are left out. Points into the message.
std::vector<const rtattr*> attributes(const void* first, size_t bytes, uint16_t most);
template <typename Head>
std::vector<const rtattr*> attributes_of(const nlmsghdr* message, uint16_t most) {
  if (message->nlmsg_len < NLMSG_SPACE(sizeof(Head))) return std::vector<const rtattr*>(most + size_t{1});
  return attributes(static_cast<const uint8_t*>(NLMSG_DATA(message)) + NLMSG_ALIGN(sizeof(Head)),
                    message->nlmsg_len - NLMSG_SPACE(sizeof(Head)), most);
}
uint32_t number_in(const rtattr* attribute);         // 0 where it is none, or too short
std::string_view text_in(const rtattr* attribute);   // empty likewise
net::IpAddress address_in(const rtattr* attribute);  // of either family by its length; 0.0.0.0 likewise

class RouteSocket {
 public:
  static Result<RouteSocket> open();

  // Sends all of them, in their order, and returns what the kernel says of each: 0 or an errno.
  Result<std::vector<int>> tell(std::vector<RouteMessage> messages);
  // 0 or an errno.
  Result<int> tell(RouteMessage message);
  // Asks for a list, of which `each` gets every entry. Begins anew where the list changes meanwhile: `each` may get one
  // twice. Returns 0 or an errno.
  Result<int> list(RouteMessage question, const std::function<void(const nlmsghdr*)>& each);
  // Asks for one thing. 0 with `answer` called, or an errno.
  Result<int> ask(RouteMessage question, const std::function<void(const nlmsghdr*)>& answer);

 private:
  explicit RouteSocket(Fd fd) : fd_(std::move(fd)) {}
  Status send(const std::vector<uint8_t>& bytes);
  // Reads until `done` says so of a message that belongs to the numbers from `first` on.
  Status read(uint32_t first, const std::function<bool(const nlmsghdr*)>& done);
  void number(RouteMessage& message);

  Fd fd_;
  uint32_t next_ = 1;
};

}  // namespace sluice::agent::dataplane
