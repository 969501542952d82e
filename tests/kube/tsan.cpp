// cpprestsdk's library is not built for ThreadSanitizer, which therefore does not see it count references: what the
// last holder frees looks like a race with the holder before. These are its own objects; ours stay under watch.
extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier): the sanitizer's name

extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "race:pplx::details::_RefCounter::_Release\n"
         "race:web::http::client::details::asio_context::~asio_context\n"
         "race:web::http::client::details::asio_context::start_request\n";
}
