# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
# PENSTOCK_HAVE_<part> for each part of PenstockOptions.cmake, and PENSTOCK_WHY_NOT_<part> when it is
# not built. The libraries themselves are loaded at run time: only headers are needed here.

# penstock_part(<part> <what is missing, empty if nothing>)
function(penstock_part part missing)
  if(PENSTOCK_WITH_${part} STREQUAL "OFF")
    set(missing "PENSTOCK_WITH_${part}=OFF")
  elseif(missing AND PENSTOCK_WITH_${part} STREQUAL "ON")
    message(FATAL_ERROR "PENSTOCK_WITH_${part}=ON: ${missing}")
  endif()
  if(missing)
    set(PENSTOCK_HAVE_${part} OFF PARENT_SCOPE)
  else()
    set(PENSTOCK_HAVE_${part} ON PARENT_SCOPE)
  endif()
  set(PENSTOCK_WHY_NOT_${part} "${missing}" PARENT_SCOPE)
endfunction()

find_path(PENSTOCK_VERBS_INCLUDE_DIR infiniband/verbs.h)
find_path(PENSTOCK_RDMACM_INCLUDE_DIR rdma/rdma_cma.h)
set(missing "")
if(NOT PENSTOCK_VERBS_INCLUDE_DIR OR NOT PENSTOCK_RDMACM_INCLUDE_DIR)
  set(missing "no headers; install libibverbs-dev and librdmacm-dev")
endif()
penstock_part(VERBS "${missing}")

find_path(PENSTOCK_UCX_INCLUDE_DIR ucp/api/ucp.h)
set(missing "")
if(NOT PENSTOCK_UCX_INCLUDE_DIR)
  set(missing "no headers; install libucx-dev")
endif()
penstock_part(UCX "${missing}")

find_program(PENSTOCK_NVCC nvcc HINTS ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
set(missing "")
if(NOT PENSTOCK_NVCC)
  set(missing "no nvcc; install the CUDA toolkit")
endif()
penstock_part(CUDA "${missing}")

penstock_part(NCCL "")  # neither headers nor a library: bindings/devices declares what it calls

# Python: the interpreter that was asked for (Python_EXECUTABLE, as scikit-build-core sets it), else
# the system's, whose packages (numpy, torch) apt installs, else the first in PATH.
set(missing "")
if(PENSTOCK_SANITIZE OR PENSTOCK_FUZZ)
  set(missing "an interpreter without sanitizers cannot load it")
elseif(NOT PENSTOCK_WITH_PYTHON STREQUAL "OFF")
  if(NOT DEFINED Python_EXECUTABLE AND EXISTS /usr/bin/python3)
    set(Python_EXECUTABLE /usr/bin/python3)
  endif()
  find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
  find_package(pybind11 2.10 CONFIG QUIET)
  if(NOT Python_Development.Module_FOUND)
    set(missing "no headers of Python 3.10 or newer; install python3-dev")
  elseif(NOT pybind11_FOUND)
    set(missing "no pybind11 2.10 or newer; install pybind11-dev")
  endif()
endif()
penstock_part(PYTHON "${missing}")
