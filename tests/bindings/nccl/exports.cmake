# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# cmake -DNM=… -DLIBRARY=… -P exports.cmake: what libnccl-net-penstock.so shows, all of it.
execute_process(COMMAND ${NM} -D --defined-only --format=posix ${LIBRARY} OUTPUT_VARIABLE lines
                COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${lines}")
set(shown "")
foreach(line IN LISTS lines)
  string(REGEX MATCH "^[^ ]+" name "${line}")
  list(APPEND shown ${name})
endforeach()
list(SORT shown COMPARE NATURAL)
set(wanted "")
foreach(version RANGE 8 12)
  list(APPEND wanted ncclNetPlugin_v${version})
endforeach()
if(NOT shown STREQUAL wanted)
  message(FATAL_ERROR "${LIBRARY} shows\n${shown}\nand not just\n${wanted}")
endif()
message(STATUS "${shown}")
