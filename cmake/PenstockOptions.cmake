# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(BUILD_TESTING "Build the tests" ON)
option(BUILD_SHARED_LIBS "Build libpenstock_cpp as a shared library" OFF)
option(PENSTOCK_WERROR "Treat warnings as errors" ON)
option(PENSTOCK_FUZZ "Build only the libFuzzer targets (needs clang)" OFF)
set(PENSTOCK_SANITIZE "" CACHE STRING "Sanitizers, for example address,undefined or thread")
set(PENSTOCK_SKIP_LABELS "" CACHE STRING "Labels of tests that this build leaves out")

# -ffp-contract=off: fused multiply-add only where the source says so, or results would differ
# between targets (kernels/README.md).
add_compile_options(-Wall -Wextra -Wconversion -Wshadow -ffp-contract=off -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  add_compile_options(-Wthread-safety)
endif()
if(PENSTOCK_WERROR)
  add_compile_options(-Werror)
endif()
if(PENSTOCK_SANITIZE)
  add_compile_options(-fsanitize=${PENSTOCK_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PENSTOCK_SANITIZE})
  # g++ 12 reports uninitialised and out-of-bounds uses in its own headers once instrumented.
  add_compile_options(-Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds)
  if(PENSTOCK_SANITIZE MATCHES "thread")
    add_compile_options(-Wno-tsan)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-fstack-protector-strong)
  add_compile_definitions(_FORTIFY_SOURCE=2)
endif()

find_program(PENSTOCK_CCACHE ccache)
if(PENSTOCK_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PENSTOCK_CCACHE})
endif()

# Parts that depend on what the host has: AUTO takes them when they can be built, ON insists. What
# they need, and PENSTOCK_HAVE_<part>, is in PenstockParts.cmake.
foreach(part VERBS UCX CUDA NCCL PYTHON)
  set(PENSTOCK_WITH_${part} AUTO CACHE STRING "Build the ${part} part: AUTO, ON or OFF")
  set_property(CACHE PENSTOCK_WITH_${part} PROPERTY STRINGS AUTO ON OFF)
  if(NOT PENSTOCK_WITH_${part} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "PENSTOCK_WITH_${part}=${PENSTOCK_WITH_${part}}: must be AUTO, ON or OFF")
  endif()
endforeach()
