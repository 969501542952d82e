// cpprestsdk's library is not built for ThreadSanitizer, which therefore does not see it count references: what the
// last holder frees looks like a race with the holder before. These are its own objects; ours stay under watch.
// NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming): the sanitizer's name
extern "C" const char* __tsan_default_suppressions();

extern "C" const char* __tsan_default_suppressions() {
  return "race:pplx::details::_RefCounter::_Release\n"
         "race:web::http::client::details::asio_context::~asio_context\n"
         "race:web::http::client::details::asio_context::start_request\n";
}
// NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming)
