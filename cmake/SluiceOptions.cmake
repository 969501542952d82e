# Compiler settings that hold for every C++ target of the house.
option(SLUICE_TESTS "Build the tests" ON)
set(SLUICE_SANITIZE "" CACHE STRING "Sanitizers to build with, as -fsanitize= takes them")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# RelWithDebInfo without full debug information: backtraces keep their lines, links stay fast.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")

add_library(sluice_options INTERFACE)
target_compile_options(sluice_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers
                                                -Wnon-virtual-dtor -Werror)
# Everywhere, as some packages ask for it: it defines a macro, and precompiled headers are for one set of macros.
target_compile_options(sluice_options INTERFACE -pthread)
# g++ collects its garbage from 128 MB on, which is 7 % of the time. Without it the largest file needs 0.8 GB instead of 0.7.
target_compile_options(sluice_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:SHELL:--param ggc-min-heapsize=1048576>)
target_include_directories(sluice_options INTERFACE ${PROJECT_SOURCE_DIR})
if(SLUICE_SANITIZE)
  # g++ 12 takes the sanitizers' checks for reads of uninitialised values, also in the standard library's headers.
  target_compile_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer
                                                  -Wno-maybe-uninitialized)
  if(SLUICE_SANITIZE MATCHES "thread")
    # Boost.Asio's fences: TSan does not see them, but its queues are under mutexes, which it does see.
    target_compile_options(sluice_options INTERFACE -Wno-tsan)
  endif()
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()

# sluice_sanitized(NAME): of an executable; what it tells the sanitizers, where there are any.
function(sluice_sanitized name)
  if(SLUICE_SANITIZE)
    target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/common/sanitizers.cpp)
  endif()
endfunction()

find_program(SLUICE_LLD ld.lld)
if(SLUICE_LLD)
  target_link_options(sluice_options INTERFACE -fuse-ld=lld)
endif()

# The git revision, for --version. Taken when CMake configures.
execute_process(COMMAND git describe --always --dirty --abbrev=12 WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                OUTPUT_VARIABLE SLUICE_GIT_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT SLUICE_GIT_REVISION)
  set(SLUICE_GIT_REVISION "unknown")
endif()

# sluice_library(NAME SOURCES ... [PUBLIC lib...] [PRIVATE lib...]): a static library under the house's options.
# Third-party headers are PRIVATE wherever they can be: that is what keeps a one-file change fast.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC sluice_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  sluice_use_precompiled(${name} library)
endfunction()
