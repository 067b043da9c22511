# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# Run by ctest: WAY (cmake, pkg-config, c, ps or python), BUILD (the build to install), SOURCE (this
# folder), WORK (a folder of our own), CXX, GENERATOR, PYTHON.
cmake_minimum_required(VERSION 3.25)
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# The flags of a pkg-config module of the installed tree, as a list.
function(pkg_config module result)
  file(GLOB_RECURSE pc ${prefix}/*/${module}.pc)
  cmake_path(GET pc PARENT_PATH folder)
  set(ENV{PKG_CONFIG_PATH} ${folder})
  execute_process(COMMAND pkg-config --cflags --libs ${module} OUTPUT_VARIABLE flags
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags)
  set(${result} ${flags} PARENT_SCOPE)
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
elseif(WAY STREQUAL "python")
  # From the installed package alone: Debian's layout, and the library found without help.
  set(ENV{PYTHONPATH} ${prefix}/lib/python3/dist-packages)
  set(ENV{PYTHONDONTWRITEBYTECODE} 1)
  file(GLOB_RECURSE library ${prefix}/*/libpenstock.so)
  cmake_path(GET library PARENT_PATH folder)
  run(${PYTHON} ${SOURCE}/consumer_python/main.py ${prefix}/lib/python3/dist-packages/penstock
      ${folder} ${SOURCE}/../../pyproject.toml)
  return()
elseif(WAY STREQUAL "pkg-config")
  pkg_config(penstock-cpp flags)
  file(MAKE_DIRECTORY ${WORK}/build)
  run(${CXX} -std=c++20 ${SOURCE}/consumer/main.cc -o ${WORK}/build/consumer ${flags})
elseif(WAY STREQUAL "ps")
  pkg_config(penstock-ps flags)
  file(MAKE_DIRECTORY ${WORK}/build)
  foreach(standard 11 20)
    run(${CXX} -std=c++${standard} -Wall -Wextra -Werror ${SOURCE}/../bindings/pslite/modern.cc
        -o ${WORK}/build/modern${standard} ${flags})
  endforeach()
  # A framework's own dmlc/ is the one, wherever its folder stands on the line.
  run(${CXX} -std=c++11 -fsyntax-only -DFRAMEWORK ${SOURCE}/consumer_ps/framework.cc ${flags}
      -I${SOURCE}/consumer_ps)
  run(${CXX} -std=c++11 -fsyntax-only ${SOURCE}/consumer_ps/framework.cc ${flags})

  file(GLOB_RECURSE library ${prefix}/*/libpenstock_ps.so)
  cmake_path(GET library PARENT_PATH folder)
  set(ENV{LD_LIBRARY_PATH} ${folder})
  execute_process(COMMAND nm --dynamic --defined-only --format=posix ${library}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "(^|\n)[^ \n]+ [A-Z] " every "${symbols}")
  foreach(symbol IN LISTS every)
    if(NOT symbol MATCHES "penstock_ps_|PENSTOCK_PS_0.1")
      message(FATAL_ERROR "libpenstock_ps.so shows ${symbol}, which is not its own")
    endif()
  endforeach()
  run(${PYTHON} ${SOURCE}/../bindings/pslite/launch.py 1+1 ${WORK}/build/modern11)
  return()
else()
  pkg_config(penstock flags)
  file(MAKE_DIRECTORY ${WORK}/build)
  run(cc -std=c99 -pedantic -Wall -Wextra -Werror ${SOURCE}/consumer_c/main.c
      -o ${WORK}/build/consumer ${flags})
  file(GLOB_RECURSE library ${prefix}/*/libpenstock.so)
  cmake_path(GET library PARENT_PATH folder)
  set(ENV{LD_LIBRARY_PATH} ${folder})

  # Exactly the functions that the header declares.
  execute_process(COMMAND nm --dynamic --defined-only --format=posix ${library}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n ]+@@PENSTOCK_[0-9.]+ T" shown "${symbols}")
  list(TRANSFORM shown REPLACE "@@.*" "")
  string(REGEX MATCHALL "(^|\n)[^ \n]+ [A-Z] " every "${symbols}")
  file(STRINGS ${prefix}/include/penstock.h declared REGEX "^PENSTOCK_API")
  list(TRANSFORM declared REPLACE ".*[ *](penstock_[a-z_]+)\\(.*" "\\1")
  list(SORT shown)
  list(SORT declared)
  if(NOT shown STREQUAL declared)
    message(FATAL_ERROR "libpenstock.so shows\n${shown}\nthe header declares\n${declared}")
  endif()
  foreach(symbol IN LISTS every)
    if(NOT symbol MATCHES "penstock_|PENSTOCK_0.1")
      message(FATAL_ERROR "libpenstock.so shows ${symbol}, which is not its own")
    endif()
  endforeach()
  file(WRITE ${WORK}/job.secret "0123456789abcdef0123456789abcdef")
  file(CHMOD ${WORK}/job.secret PERMISSIONS OWNER_READ OWNER_WRITE)
  set(arguments ${WORK}/job.secret)
endif()
run(${WORK}/build/consumer ${arguments})
