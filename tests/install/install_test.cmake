# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# Run by ctest: WAY (cmake or pkg-config), BUILD (the build to install), SOURCE (this folder), WORK
# (a folder of our own), CXX, GENERATOR.
cmake_minimum_required(VERSION 3.25)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
# The prefix is chosen here and not at configure, so nothing installed may remember another one.
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${prefix}/bin/penstock doctor --transport tcp)

if(WAY STREQUAL "cmake")
  run(${CMAKE_COMMAND} -S ${SOURCE}/consumer -B ${WORK}/build -G ${GENERATOR}
      -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${prefix})
  run(${CMAKE_COMMAND} --build ${WORK}/build)
else()
  file(GLOB_RECURSE pc ${prefix}/*/penstock.pc)
  cmake_path(GET pc PARENT_PATH folder)
  set(ENV{PKG_CONFIG_PATH} ${folder})
  execute_process(COMMAND pkg-config --cflags --libs penstock OUTPUT_VARIABLE flags
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags)
  file(MAKE_DIRECTORY ${WORK}/build)
  run(${CXX} -std=c++20 ${SOURCE}/consumer/main.cc -o ${WORK}/build/consumer ${flags})
endif()
run(${WORK}/build/consumer)
