#include "node-agent/dataplane/route_socket.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sluice::agent::dataplane {
namespace {

constexpr const char* kOperation = "talk to rtnetlink";
constexpr size_t kAtOnce = 100;  // messages: their answers have to fit the socket's buffer
constexpr int kListAttempts = 4;
constexpr int kOn = 1;

const nlmsgerr* error_of(const nlmsghdr* message) {
  return message->nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr)) ? nullptr
                                                             : static_cast<const nlmsgerr*>(NLMSG_DATA(message));
}

const void* data_of(const rtattr* attribute) {
  return reinterpret_cast<const uint8_t*>(attribute) + RTA_LENGTH(0);
}
size_t bytes_of(const rtattr* attribute) {
  return attribute->rta_len - RTA_LENGTH(0);
}

}  // namespace

RouteMessage::RouteMessage(uint16_t type, uint16_t flags, const void* head, size_t bytes) : bytes_(NLMSG_SPACE(bytes)) {
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
  std::memcpy(bytes_.data(), &header, sizeof header);
  std::memcpy(bytes_.data() + NLMSG_HDRLEN, head, bytes);
}

void RouteMessage::put(uint16_t type, const void* data, size_t bytes) {
  const size_t at = bytes_.size();
  bytes_.resize(at + RTA_SPACE(bytes));
  rtattr head{};
  head.rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
  head.rta_type = type;
  std::memcpy(bytes_.data() + at, &head, sizeof head);
  if (bytes != 0) std::memcpy(bytes_.data() + at + RTA_LENGTH(0), data, bytes);
}

void RouteMessage::put(uint16_t type, std::string_view text) {
  const std::string with_end(text);
  put(type, with_end.c_str(), with_end.size() + 1);
}

void RouteMessage::nest(uint16_t type, const std::function<void()>& inside, const void* head, size_t bytes) {
  const size_t at = bytes_.size();
  put(static_cast<uint16_t>(type | NLA_F_NESTED), head, bytes);
  inside();
  const auto length = static_cast<uint16_t>(bytes_.size() - at);
  std::memcpy(bytes_.data() + at + offsetof(rtattr, rta_len), &length, sizeof length);
}

std::vector<const rtattr*> attributes(const void* first, size_t bytes, uint16_t most) {
  std::vector<const rtattr*> found(most + size_t{1});
  const auto* at = static_cast<const uint8_t*>(first);
  while (bytes >= sizeof(rtattr)) {
    const auto* attribute = reinterpret_cast<const rtattr*>(at);
    if (attribute->rta_len < sizeof(rtattr) || attribute->rta_len > bytes) break;
    const auto type = static_cast<uint16_t>(attribute->rta_type & NLA_TYPE_MASK);
    if (type <= most) found[type] = attribute;
    const size_t step = std::min<size_t>(RTA_ALIGN(attribute->rta_len), bytes);
    at += step;
    bytes -= step;
  }
  return found;
}

uint32_t number_in(const rtattr* attribute) {
  uint32_t value = 0;
  if (attribute != nullptr && bytes_of(attribute) >= sizeof value) {
    std::memcpy(&value, data_of(attribute), sizeof value);
  }
  return value;
}

std::string_view text_in(const rtattr* attribute) {
  if (attribute == nullptr) return {};
  const auto* text = static_cast<const char*>(data_of(attribute));
  return {text, strnlen(text, bytes_of(attribute))};
}

net::IpAddress address_in(const rtattr* attribute) {
  std::array<uint8_t, 16> bytes{};
  if (attribute == nullptr) return {};
  if (bytes_of(attribute) == bytes.size()) {
    std::memcpy(bytes.data(), data_of(attribute), bytes.size());
    return net::IpAddress::from_ipv6(bytes);
  }
  return net::IpAddress::from_ipv4(number_in(attribute));
}

Result<RouteSocket> RouteSocket::open() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
    return fail_errno(errno, kOperation, "");
  }
  // An error's answer does not repeat the message; a list is of what the question names alone.
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &kOn, sizeof kOn);
  setsockopt(fd.get(), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &kOn, sizeof kOn);
  return RouteSocket(std::move(fd));
}

void RouteSocket::number(RouteMessage& message) {
  auto* header = reinterpret_cast<nlmsghdr*>(message.bytes_.data());
  header->nlmsg_len = static_cast<uint32_t>(message.bytes_.size());
  header->nlmsg_seq = next_++;
}

Status RouteSocket::send(const std::vector<uint8_t>& bytes) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  if (sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel) < 0) {
    return fail_errno(errno, kOperation, "");
  }
  return {};
}

Status RouteSocket::read(uint32_t first, const std::function<bool(const nlmsghdr*)>& done) {
  std::vector<uint8_t> buffer(1 << 16);
  for (;;) {
    const ssize_t got = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, kOperation, "");
    auto left = static_cast<size_t>(got);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      // Of a question that was given up before.
      if (static_cast<int32_t>(message->nlmsg_seq - first) < 0) continue;
      if (done(message)) return {};
    }
  }
}

Result<std::vector<int>> RouteSocket::tell(std::vector<RouteMessage> messages) {
  std::vector<int> outcome(messages.size());
  for (size_t begin = 0; begin < messages.size(); begin += kAtOnce) {
    const size_t end = std::min(begin + kAtOnce, messages.size());
    const uint32_t first = next_;
    std::vector<uint8_t> bytes;
    for (size_t i = begin; i < end; ++i) {
      number(messages[i]);
      reinterpret_cast<nlmsghdr*>(messages[i].bytes_.data())->nlmsg_flags |= NLM_F_ACK;
      bytes.insert(bytes.end(), messages[i].bytes_.begin(), messages[i].bytes_.end());
    }
    if (Status sent = send(bytes); !sent) return tl::unexpected(sent.error());
    size_t answered = 0;
    const Status read_all = read(first, [&](const nlmsghdr* message) {
      const nlmsgerr* error = message->nlmsg_type == NLMSG_ERROR ? error_of(message) : nullptr;
      if (error != nullptr) {
        outcome.at(begin + (message->nlmsg_seq - first)) = -error->error;
        ++answered;
      }
      return answered == end - begin;
    });
    if (!read_all) return tl::unexpected(read_all.error());
  }
  return outcome;
}

Result<int> RouteSocket::tell(RouteMessage message) {
  std::vector<RouteMessage> one;
  one.push_back(std::move(message));
  const auto outcome = tell(std::move(one));
  if (!outcome) return tl::unexpected(outcome.error());
  return outcome->front();
}

Result<int> RouteSocket::list(RouteMessage question, const std::function<void(const nlmsghdr*)>& each) {
  reinterpret_cast<nlmsghdr*>(question.bytes_.data())->nlmsg_flags |= NLM_F_DUMP;
  for (int attempt = 1;; ++attempt) {
    number(question);
    if (Status sent = send(question.bytes_); !sent) return tl::unexpected(sent.error());
    int code = 0;
    bool interrupted = false;
    const Status read_all = read(next_ - 1, [&](const nlmsghdr* message) {
      interrupted = interrupted || (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
      if (message->nlmsg_type == NLMSG_DONE) {
        if (message->nlmsg_len >= NLMSG_LENGTH(sizeof code)) std::memcpy(&code, NLMSG_DATA(message), sizeof code);
        return true;
      }
      if (message->nlmsg_type == NLMSG_ERROR) {
        const nlmsgerr* error = error_of(message);
        code = error == nullptr ? -EPROTO : error->error;
        return true;
      }
      each(message);
      return false;
    });
    if (!read_all) return tl::unexpected(read_all.error());
    if (!interrupted || attempt == kListAttempts) return -code;
  }
}

Result<int> RouteSocket::ask(RouteMessage question, const std::function<void(const nlmsghdr*)>& answer) {
  number(question);
  if (Status sent = send(question.bytes_); !sent) return tl::unexpected(sent.error());
  int code = 0;
  const Status read_one = read(next_ - 1, [&](const nlmsghdr* message) {
    if (message->nlmsg_type == NLMSG_ERROR) {
      const nlmsgerr* error = error_of(message);
      code = error == nullptr ? EPROTO : -error->error;
    } else {
      answer(message);
    }
    return true;
  });
  if (!read_one) return tl::unexpected(read_one.error());
  return code;
}

}  // namespace sluice::agent::dataplane
