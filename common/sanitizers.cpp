// What the sanitizers are told of the libraries, which are not built for them. In every program that is
// (SLUICE_SANITIZE), and in no other.
#include <cstdint>

// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the sanitizers' and OpenSSL's names
extern "C" {

const char* __tsan_default_options();
const char* __tsan_default_suppressions();
int OPENSSL_init_crypto(uint64_t options, const void* settings) __attribute__((weak));

// Calls of memcpy, epoll_wait and the like by the libraries themselves: TSan does not see how they keep apart what they
// share. Their locks still count.
const char* __tsan_default_options() {
  return "ignore_noninstrumented_modules=1";
}

// What of the libraries is in their headers, and so in our code. Theirs pass it from thread to thread by ways that TSan
// does not see: cpprestsdk's count of references, gRPC's completion queue. Our objects stay under watch.
const char* __tsan_default_suppressions() {
  return "race:pplx::details::_RefCounter::_Release\n"
         "race:web::http::client::details::asio_context::~asio_context\n"
         "race:web::http::client::details::asio_context::start_request\n"
         "race:grpc::internal::InterceptorBatchMethodsImpl\n"
         "race:grpc::internal::Call\n"
         "race:grpc::ByteBuffer::\n"
         "race:sluice::publish::Stream::OnDone\n";  // what was there before StartCall()
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)

namespace {

// OpenSSL cleans up at exit, before cpprestsdk's threads end: what it has for each of them is a leak then. Without, it
// goes with the threads.
[[maybe_unused]] const bool without_cleanup = [] {
  constexpr uint64_t kNoAtExit = 0x00080000;  // OPENSSL_INIT_NO_ATEXIT
  return OPENSSL_init_crypto != nullptr && OPENSSL_init_crypto(kNoAtExit, nullptr) == 1;
}();

}  // namespace
