# Headers of the standard library and of GoogleTest, compiled once: a build from nothing takes a quarter less time. One set for what
# is compiled as a library's code is, one for what is compiled as a test's is: the compiler takes such headers only with the
# flags that they were compiled with. nlohmann/json is in neither: what includes it is no faster by that, and all else slower.
option(SLUICE_PRECOMPILE "Compile headers that nearly all files include once" ON)

# By name and not in a header of the house: its path would be in the result, which other clones take from the compiler cache.
set(SLUICE_PRECOMPILED_library
    <algorithm> <array> <chrono> <filesystem> <functional> <map> <memory> <mutex> <optional> <ranges> <set> <span> <sstream> <string>
    <string_view> <thread> <tl/expected.hpp> <utility> <variant> <vector>)
set(SLUICE_PRECOMPILED_test <gmock/gmock.h> <gtest/gtest.h> ${SLUICE_PRECOMPILED_library})

# sluice_precompiled(KIND): KIND is library or test.
function(sluice_precompiled kind)
  set(source ${PROJECT_BINARY_DIR}/generated/precompiled.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "// Something to compile the headers with.\n")
  add_library(sluice_precompiled_${kind} OBJECT ${source})
  target_link_libraries(sluice_precompiled_${kind} PRIVATE sluice_options tl::expected)
  target_precompile_headers(sluice_precompiled_${kind} PRIVATE ${SLUICE_PRECOMPILED_${kind}})
endfunction()

function(sluice_use_precompiled name kind)
  if(SLUICE_PRECOMPILE)
    target_precompile_headers(${name} REUSE_FROM sluice_precompiled_${kind})
  endif()
endfunction()

if(SLUICE_PRECOMPILE)
  sluice_precompiled(library)
  if(SLUICE_TESTS)
    sluice_precompiled(test)
    sluice_test_options(sluice_precompiled_test)
  endif()
endif()
