# How a test's code is compiled, and what tests share. It is compiled more often than it runs: without optimisation that takes
# two thirds of the time; of the warnings that need the optimiser it has none. Nor has it debug information in the release build:
# GoogleTest says the line, and a crash has the debug preset. -fPIE for libraries as for programs, since precompiled headers
# are for one set of flags.
function(sluice_test_options name)
  target_link_libraries(${name} PRIVATE sluice_options GTest::gtest GTest::gmock)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIE -O0 $<$<CONFIG:RelWithDebInfo>:-g0>)
endfunction()

# sluice_test_library(NAME SOURCES ... [PUBLIC lib...] [PRIVATE lib...]): what several tests share.
function(sluice_test_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC sluice_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  sluice_test_options(${name})
  sluice_use_precompiled(${name} test)
endfunction()

# sluice_test(NAME SOURCES ... LIBS ... LABEL unit|packets|netns|kube): a GoogleTest binary, run by ctest as one test.
# Tests of the labels packets, netns and kube change what the machine owns (network namespaces, ports): they do not run side by side.
function(sluice_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  sluice_sanitized(${name})
  target_link_libraries(${name} PRIVATE sluice_options ${ARG_LIBS} GTest::gtest_main)
  sluice_test_options(${name})
  sluice_use_precompiled(${name} test)
  add_test(NAME ${ARG_LABEL}.${name} COMMAND ${name})
  set_tests_properties(${ARG_LABEL}.${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(NOT ARG_LABEL STREQUAL "unit")
    set_tests_properties(${ARG_LABEL}.${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
