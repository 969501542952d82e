// spdlog, without its formatter in every file that logs: that took most of the time such a file compiled.
#pragma once

#include <spdlog/spdlog.h>

#if FMT_VERSION >= 90000 && FMT_VERSION < 100000 && !defined(FMT_HEADER_ONLY)
// fmt 9 has this compiled, and does not say so; later versions do.
extern template void fmt::detail::vformat_to<char>(fmt::detail::buffer<char>& out, fmt::string_view format,
                                                   fmt::format_args args, fmt::detail::locale_ref locale);
#endif
