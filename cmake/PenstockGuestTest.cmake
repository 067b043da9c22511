# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# Tests that need an RDMA device. They run in a guest (scripts/softroce), or with
# PENSTOCK_VERBS_TESTS=host in the environment of ctest on this machine's own devices; where neither
# can be had they are skipped with the reason. Only plain builds have them: sanitizers and a guest's
# memory do not go together.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
# The interpreter itself: what find_package() names may be a wrapper that takes longer than a report.
execute_process(COMMAND ${Python3_EXECUTABLE} -c "import sys; print(sys.executable)"
                OUTPUT_VARIABLE penstock_python OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)

set(penstock_softroce ${PROJECT_SOURCE_DIR}/scripts/softroce)
set(penstock_guest_record ${penstock_python} ${PROJECT_SOURCE_DIR}/tests/support/guest_test.py)

# What every entry that boots a guest has: one guest at a time, since two would only share the CPU.
function(penstock_guest_properties test label timeout)
  math(EXPR limit "${timeout} + 30")  # scripts/softroce ends first and says why
  set_tests_properties(${test} PROPERTIES LABELS ${label} TIMEOUT ${limit} SKIP_RETURN_CODE 77
                       RESOURCE_LOCK penstock_guest)
endfunction()

# penstock_guest_test(<name> NET <one|pair|none> SOURCES <files…> [LIBRARIES <…>] [LABEL <label>]
#                     [TIMEOUT <s>])
# One gtest program, one boot of a guest, and its ctest entries: <label>/<name>/guest runs all of
# it, each case reports its own result as <label>/<Suite>.<Case>, <label>/<name>/end says whether the
# program ended well. The program lists its cases on the machine that builds, without a device.
function(penstock_guest_test name)
  cmake_parse_arguments(arg "" "NET;LABEL;TIMEOUT" "SOURCES;LIBRARIES" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL verbs)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(PENSTOCK_SANITIZE OR arg_LABEL IN_LIST PENSTOCK_SKIP_LABELS)
    return()
  endif()
  penstock_test_program(${name} SOURCES ${arg_SOURCES} LIBRARIES ${arg_LIBRARIES})

  set(record ${CMAKE_CURRENT_BINARY_DIR}/${name}.record)
  set(prefix ${test_prefix}${arg_LABEL})
  add_test(NAME ${prefix}/${name}/guest
           COMMAND ${penstock_guest_record} run ${record} ${penstock_softroce} --net ${arg_NET}
                   --timeout ${arg_TIMEOUT} --work ${CMAKE_CURRENT_BINARY_DIR}
                   -- $<TARGET_FILE:${name}> --gtest_color=no
           WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  penstock_guest_properties(${prefix}/${name}/guest ${arg_LABEL} ${arg_TIMEOUT})
  set_tests_properties(${prefix}/${name}/guest PROPERTIES FIXTURES_SETUP guest_${name})

  add_test(NAME ${prefix}/${name}/end COMMAND ${penstock_guest_record} end ${record})
  set(reports LABELS ${arg_LABEL} SKIP_RETURN_CODE 77 FIXTURES_REQUIRED guest_${name})
  set_tests_properties(${prefix}/${name}/end PROPERTIES ${reports})
  set_target_properties(${name} PROPERTIES CROSSCOMPILING_EMULATOR
                        "${penstock_guest_record};case;${record}")
  gtest_discover_tests(${name} TEST_PREFIX "${prefix}/" DISCOVERY_TIMEOUT 60
                       PROPERTIES ${reports})
endfunction()

# penstock_guest_script(<name> NET <one|pair|none> COMMAND <command…> [LABEL <label>] [TIMEOUT <s>]
#                       [ENVIRONMENT <NAME=value…>])
# One ctest entry <label>/<name>: one command in one guest, in the build folder, which is the only
# one it may write to. The command's exit status 77 skips, with its line "SKIP: <reason>".
function(penstock_guest_script name)
  cmake_parse_arguments(arg "" "NET;LABEL;TIMEOUT" "COMMAND;ENVIRONMENT" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL verbs)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(PENSTOCK_SANITIZE OR arg_LABEL IN_LIST PENSTOCK_SKIP_LABELS)
    return()
  endif()
  add_test(NAME ${arg_LABEL}/${name}
           COMMAND ${penstock_softroce} --net ${arg_NET} --timeout ${arg_TIMEOUT}
                   --work ${CMAKE_CURRENT_BINARY_DIR} -- ${arg_COMMAND}
           WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  penstock_guest_properties(${arg_LABEL}/${name} ${arg_LABEL} ${arg_TIMEOUT})
  set_tests_properties(${arg_LABEL}/${name} PROPERTIES ENVIRONMENT "${arg_ENVIRONMENT}")
endfunction()
