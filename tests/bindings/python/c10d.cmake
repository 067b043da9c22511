# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
penstock_python_test(c10d_process_test)
penstock_python_test(c10d_test)
set_tests_properties(bindings/python/c10d_process_test PROPERTIES TIMEOUT 300)  # imports torch 16 times

# PyTorch's own suite of a backend, on ours. Left out with -LE pytorch; 77: there is no torch, or not
# the one that the lists are of.
function(penstock_c10d_suite mode names)
  set(test bindings/python/c10d_suite.${mode})
  add_test(NAME ${test}
    COMMAND ${Python_EXECUTABLE} c10d_suite.py ${mode} --names ${names}
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(${test} PROPERTIES LABELS pytorch TIMEOUT 600 SKIP_RETURN_CODE 77
    ENVIRONMENT "PYTHONPATH=${PROJECT_BINARY_DIR}/bindings/python;PYTHONDONTWRITEBYTECODE=1")
endfunction()

penstock_c10d_suite(penstock c10d_suite.txt)
penstock_c10d_suite(as-gloo c10d_suite_as_gloo.txt)
