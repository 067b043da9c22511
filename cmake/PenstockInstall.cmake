# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# cmake --install: penstock.h and libpenstock.so (C), headers under include/penstock and
# libpenstock_cpp (C++), ps/ps.h and libpenstock_ps, find_package(penstock), pkg-config, psbench, the
# program penstock, NCCL's network plugin.
# tests/install builds consumers against the result.
include(CMakePackageConfigHelpers)
if(PENSTOCK_FUZZ)
  return()
endif()

install(TARGETS penstock penstock_c penstock_ps EXPORT penstockTargets)
install(FILES ${PROJECT_SOURCE_DIR}/bindings/c/penstock.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT penstockTargets NAMESPACE penstock::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/penstock)
install(DIRECTORY transport engine kernels bindings
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/penstock
        FILES_MATCHING PATTERN "*.h" PATTERN "bindings/cli" EXCLUDE
        PATTERN "bindings/c" EXCLUDE PATTERN "bindings/nccl" EXCLUDE
        PATTERN "bindings/pslite" EXCLUDE
        PATTERN "bindings/launch" EXCLUDE PATTERN "bindings/python" EXCLUDE)
install(DIRECTORY bindings/pslite/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/penstock-ps)
install(DIRECTORY bindings/pslite/include_dmlc/
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/penstock-ps/fallback)
install(FILES ${PROJECT_BINARY_DIR}/generated/engine/protocol/messages_generated.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/penstock/engine/protocol)
if(TARGET psbench)
  install(TARGETS psbench)
endif()
install(TARGETS penstock_program penstock_kvserver_program)
if(TARGET penstock_nccl_net)
  install(TARGETS penstock_nccl_net LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

# What a consumer has to find, derived from what the library links: one line per package here, and
# an error at configure when a new dependency has none.
set(penstock_find "")
set(penstock_requires "")
set(penstock_libs "")
get_target_property(libraries penstock INTERFACE_LINK_LIBRARIES)
list(TRANSFORM libraries REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1")
list(FILTER libraries EXCLUDE REGEX "^::@")  # CMake's own marks: which folder linked it
list(REMOVE_DUPLICATES libraries)
foreach(library IN LISTS libraries)
  if(library STREQUAL "Threads::Threads")
    string(APPEND penstock_find "find_dependency(Threads)\n")
    string(APPEND penstock_libs " -pthread")
  elseif(library MATCHES "^(fmt|spdlog)::")
    string(APPEND penstock_find "find_dependency(${CMAKE_MATCH_1})\n")
    string(APPEND penstock_requires " ${CMAKE_MATCH_1}")
  elseif(library MATCHES "^OpenSSL::(SSL|Crypto)$")
    string(APPEND penstock_find "find_dependency(OpenSSL 3.0)\n")
    string(APPEND penstock_requires " openssl")
  elseif(library MATCHES "^PkgConfig::(.*)$")
    set(prefix ${CMAKE_MATCH_1})
    string(APPEND penstock_find "find_dependency(PkgConfig)\n"
           "pkg_check_modules(${prefix} REQUIRED IMPORTED_TARGET ${${prefix}_MODULE_NAME})\n")
    string(APPEND penstock_requires " ${${prefix}_MODULE_NAME}")
  elseif(library MATCHES "^(rt|dl|m|atomic|xxhash)$")
    string(APPEND penstock_libs " -l${library}")
  else()
    message(FATAL_ERROR "cmake/PenstockInstall.cmake: say how a consumer finds ${library}")
  endif()
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/penstockConfig.cmake.in
  ${PROJECT_BINARY_DIR}/penstockConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/penstock)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/penstockConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH penstock_pc_up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
foreach(module penstock penstock-cpp penstock-ps)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${module}.pc.in ${PROJECT_BINARY_DIR}/${module}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${module}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/penstockConfig.cmake
              ${PROJECT_BINARY_DIR}/penstockConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/penstock)
