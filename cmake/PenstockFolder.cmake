# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# penstock_folder(<name> SOURCES <files…> [DEPENDS <folder targets and packages…>])
# One target per folder, penstock_<name>; its objects become part of the one library users link.
# DEPENDS follows the arrows of the folder plan; packages named there are linked by users too.
function(penstock_folder name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(penstock_${name} OBJECT ${arg_SOURCES})
  target_include_directories(penstock_${name} PUBLIC ${PROJECT_SOURCE_DIR}
                                                     ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(penstock_${name} PUBLIC ${arg_DEPENDS})
  target_sources(penstock PRIVATE $<TARGET_OBJECTS:penstock_${name}>)
  foreach(dependency IN LISTS arg_DEPENDS)
    if(NOT dependency MATCHES "^penstock_")
      target_link_libraries(penstock PUBLIC ${dependency})
    endif()
  endforeach()
endfunction()
