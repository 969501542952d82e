option(SLUICE_PRECOMPILE "Compile headers that all tests include once" ON)

# How a test's code is compiled. It is compiled more often than it runs: without optimisation that takes two thirds of the
# time. -pthread, which some packages ask for, defines a macro, and precompiled headers are for one set of macros.
function(sluice_test_options name)
  target_link_libraries(${name} PRIVATE sluice_options GTest::gtest GTest::gmock)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIE -pthread -O0)
  if(SLUICE_PRECOMPILE AND NOT name STREQUAL "sluice_precompiled_test")
    target_precompile_headers(${name} REUSE_FROM sluice_precompiled_test)
  endif()
endfunction()

# For tests alone: what is optimised spends its time elsewhere, and is no faster with its headers precompiled. Nor is what
# includes nlohmann/json, and what does not is slower with that in here.
if(SLUICE_TESTS AND SLUICE_PRECOMPILE)
  add_library(sluice_precompiled_test OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled/empty.cpp)
  target_link_libraries(sluice_precompiled_test PRIVATE tl::expected)
  sluice_test_options(sluice_precompiled_test)
  target_precompile_headers(sluice_precompiled_test PRIVATE ${PROJECT_SOURCE_DIR}/cmake/precompiled/test.h)
endif()

# sluice_test_library(NAME SOURCES ... [PUBLIC lib...] [PRIVATE lib...]): what several tests share.
function(sluice_test_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC sluice_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  sluice_test_options(${name})
endfunction()

# sluice_test(NAME SOURCES ... LIBS ... LABEL unit|packets|netns|kube): a GoogleTest binary, run by ctest as one test.
# Tests of the labels packets, netns and kube change what the machine owns (network namespaces, ports): they do not run side by side.
function(sluice_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sluice_options ${ARG_LIBS} GTest::gtest_main)
  sluice_test_options(${name})
  add_test(NAME ${ARG_LABEL}.${name} COMMAND ${name})
  set_tests_properties(${ARG_LABEL}.${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(NOT ARG_LABEL STREQUAL "unit")
    set_tests_properties(${ARG_LABEL}.${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
