# sluice_test(NAME SOURCES ... LIBS ... LABEL unit|packets|netns|kube): a GoogleTest binary, run by ctest as one test.
# Tests of the labels packets, netns and kube change what the machine owns (network namespaces, ports): they do not run side by side.
function(sluice_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LIBS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE sluice_options ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
  # A test's own code is compiled more often than it runs: without optimisation that takes two thirds of the time.
  target_compile_options(${name} PRIVATE -O0)
  add_test(NAME ${ARG_LABEL}.${name} COMMAND ${name})
  set_tests_properties(${ARG_LABEL}.${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
  if(NOT ARG_LABEL STREQUAL "unit")
    set_tests_properties(${ARG_LABEL}.${name} PROPERTIES RUN_SERIAL TRUE)
  endif()
endfunction()
