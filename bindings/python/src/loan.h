// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dlpack/dlpack.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <memory>
#include <string>

namespace penstock::python {

enum class Access { kRead, kWrite };

// Memory of a Python object's, lent without a copy: the object lives as long as the loan. Made and
// destroyed with the GIL.
class Loan {
 public:
  // By DLPack: `lender` has __dlpack__ (numpy, torch, JAX, CuPy, …) or is a capsule of it, of the
  // legacy ("dltensor") or the versioned kind ("dltensor_versioned"). Raises TypeError when it is
  // neither, InvalidArgument with the lender's words when it refuses, is read-only where Penstock
  // writes, or has made a copy. Device, dtype and strides are the user's of the loan to check.
  static Loan of_tensor(pybind11::handle lender, const std::string& what, Access access);
  // By Python's buffer protocol (bytes, bytearray, memoryview, numpy), else by DLPack: contiguous
  // host memory of any dtype.
  static Loan of_bytes(pybind11::handle lender, const std::string& what, Access access);

  const DLTensor& tensor() const { return tensor_; }
  // Of a contiguous tensor.
  std::byte* data() const { return static_cast<std::byte*>(tensor_.data) + tensor_.byte_offset; }
  std::size_t bytes() const { return bytes_; }

 private:
  DLTensor tensor_{};
  std::size_t bytes_ = 0;
  std::shared_ptr<void> owner_;  // gives the memory back
};

}  // namespace penstock::python
