#include "operator/publish/stream.h"

#include <grpcpp/generic/generic_stub.h>

#include <utility>
#include <vector>

#include "common/tls/certificates.h"

namespace sluice::publish {

namespace {

using Stub = grpc::TemplatedGenericStub<grpc::ByteBuffer, grpc::ByteBuffer>;
constexpr const char* kSession = "/sluice.node.v1.NodeAgent/Session";

void release(void* holder) {
  delete static_cast<Bytes*>(holder);
}

bool parse(const grpc::ByteBuffer& buffer, node::v1::AgentMessage& message) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) {
    return false;
  }
  for (const auto& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return message.ParseFromString(bytes);
}

}  // namespace

std::shared_ptr<grpc::Channel> make_channel(const Endpoint& endpoint, const Credentials& credentials,
                                            const Settings& settings) {
  grpc::ChannelArguments arguments;
  arguments.SetSslTargetNameOverride(tls::kAgentName);
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(settings.keepalive_time.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(settings.keepalive_timeout.count()));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // 0: any number
  // Agents are reached directly, whatever the environment says of proxies, and every channel dials anew: the back-off
  // is ours.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(settings.dial_timeout.count()));
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);

  grpc::SslCredentialsOptions options;
  options.pem_root_certs = credentials.ca_bundle;
  options.pem_cert_chain = credentials.certificate;
  options.pem_private_key = credentials.key;
  const auto port = std::to_string(endpoint.port);
  const std::string target = endpoint.address.is_ipv4() ? "ipv4:" + endpoint.address.to_string() + ":" + port
                                                        : "ipv6:[" + endpoint.address.to_string() + "]:" + port;
  return grpc::CreateCustomChannel(target, grpc::SslCredentials(options), arguments);
}

grpc::ByteBuffer to_buffer(const Bytes& bytes) {
  // Slices do not own the text: each holds a reference, so that it lives as long as the slowest reader needs.
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): gRPC's signature; it only reads.
  const grpc::Slice slice(const_cast<char*>(bytes->data()), bytes->size(), release, new Bytes(bytes));
  return {&slice, 1};
}

std::shared_ptr<Stream> Stream::open(std::shared_ptr<grpc::Channel> channel, const Bytes& hello, Handlers handlers) {
  std::shared_ptr<Stream> stream(new Stream(std::move(channel), hello, std::move(handlers)));
  stream->myself_ = stream;
  Stub stub(stream->channel_);
  stub.PrepareBidiStreamingCall(&stream->context_, kSession, {}, stream.get());
  stream->AddHold();  // operations start outside of reactions: the stream stays until close()
  stream->StartRead(&stream->in_);
  stream->StartWrite(&stream->out_);
  stream->StartCall();
  return stream;
}

Stream::Stream(std::shared_ptr<grpc::Channel> channel, const Bytes& hello, Handlers handlers)
    : channel_(std::move(channel)), handlers_(std::move(handlers)), out_(to_buffer(hello)) {}

void Stream::write(const Bytes& message) {
  const std::lock_guard lock(mutex_);
  if (!closing_) {
    out_ = to_buffer(message);
    StartWrite(&out_);
  }
}

void Stream::read() {
  const std::lock_guard lock(mutex_);
  if (!closing_) {
    StartRead(&in_);
  }
}

void Stream::close() {
  // TryCancel first: once the hold is gone, the stream may be done and away.
  const auto myself = shared_from_this();
  context_.TryCancel();
  end();
}

void Stream::end() {
  const std::lock_guard lock(mutex_);
  if (!closing_) {
    closing_ = true;
    RemoveHold();
  }
}

void Stream::OnReadDone(bool ok) {
  node::v1::AgentMessage message;
  if (!ok) {
    end();  // without cancelling, so that the peer's reason arrives in OnDone
    return;
  }
  if (!parse(in_, message)) {
    close();
    return;
  }
  in_.Clear();
  handlers_.read(std::move(message));
}

void Stream::OnWriteDone(bool ok) {
  if (!ok) {
    end();
    return;
  }
  handlers_.written();
}

void Stream::OnDone(const grpc::Status& status) {
  const auto closed = std::move(handlers_.closed);  // outlives the stream
  closed(status, std::move(myself_));
}

}  // namespace sluice::publish
