// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/loan.h"

#include <cstring>

#include "bindings/c/penstock.h"
#include "bindings/python/src/error.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

// DLPack 1.x, as its specification has it; Debian's header is older.
struct VersionedTensor {
  std::uint32_t major;
  std::uint32_t minor;
  void* context;
  void (*deleter)(VersionedTensor* self);
  std::uint64_t flags;
  DLTensor tensor;
};
constexpr std::uint32_t kMajor = 1;
constexpr std::uint64_t kReadOnly = 1, kIsCopied = 2;

constexpr const char* kLegacyName = "dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";

template <class Managed>
std::shared_ptr<void> owner_of(Managed* managed) {
  return {managed, [](void* owned) {
            auto* const self = static_cast<Managed*>(owned);
            if (self->deleter != nullptr) self->deleter(self);
          }};
}

// From now on the memory is ours to give back, not the capsule's.
template <class Managed>
Managed* consume(py::handle capsule, const char* name, const char* used) {
  auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used) != 0)
    throw py::error_already_set();
  return managed;
}

std::size_t bytes_of(const DLTensor& tensor) {
  std::size_t elements = 1;
  for (int i = 0; i < tensor.ndim; ++i) elements *= static_cast<std::size_t>(tensor.shape[i]);
  return elements * ((tensor.dtype.bits * tensor.dtype.lanes + 7U) / 8U);
}

[[noreturn]] void refuse(const std::string& sentence) {
  raise(PENSTOCK_INVALID_ARGUMENT, sentence);
}

std::string kind_of(py::handle object) {
  return py::str(py::type::handle_of(object).attr("__name__"));
}

// What __dlpack__() of the lender returns: the versioned kind where it can.
py::object export_capsule(py::handle lender, const std::string& what) {
  const py::object exporter = lender.attr("__dlpack__");
  try {
    try {
      return exporter(py::arg("max_version") = py::make_tuple(kMajor, 0), py::arg("copy") = false);
    } catch (py::error_already_set& error) {
      if (!error.matches(PyExc_TypeError)) throw;
    }
    return exporter();  // older than DLPack 1.0
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_BufferError) && !error.matches(PyExc_RuntimeError) &&
        !error.matches(PyExc_ValueError) && !error.matches(PyExc_TypeError))
      throw;
    refuse(what + " cannot be lent: " + std::string(py::str(error.value())));
  }
}

}  // namespace

Loan Loan::of_tensor(py::handle lender, const std::string& what, Access access) {
  py::object capsule = py::reinterpret_borrow<py::object>(lender);
  if (py::hasattr(lender, "__dlpack__")) capsule = export_capsule(lender, what);
  Loan loan;
  if (PyCapsule_IsValid(capsule.ptr(), kLegacyName) != 0) {
    auto* const managed = consume<DLManagedTensor>(capsule, kLegacyName, "used_dltensor");
    loan.owner_ = owner_of(managed);
    loan.tensor_ = managed->dl_tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), kVersionedName) != 0) {
    auto* const managed =
        consume<VersionedTensor>(capsule, kVersionedName, "used_dltensor_versioned");
    loan.owner_ = owner_of(managed);
    if (managed->major != kMajor)
      refuse(what + " come by DLPack " + std::to_string(managed->major) + "." +
             std::to_string(managed->minor) + "; versions 1.x and the legacy one are understood");
    if ((managed->flags & kIsCopied) != 0)
      refuse(what + " came as a copy; lend memory that DLPack can export as it is");
    if (access == Access::kWrite && (managed->flags & kReadOnly) != 0)
      refuse(what + " are read-only; lend memory that may be written");
    loan.tensor_ = managed->tensor;
  } else if (PyCapsule_CheckExact(capsule.ptr()) != 0) {
    const char* const name = PyCapsule_GetName(capsule.ptr());
    refuse(what + " are a capsule named \"" + (name == nullptr ? "" : name) +
           "\"; one is used once, and must be a \"dltensor\" or a \"dltensor_versioned\"");
  } else {
    throw py::type_error(what + " are of type " + kind_of(lender) +
                         "; lend a numpy array, a torch tensor or anything else with __dlpack__");
  }
  loan.bytes_ = bytes_of(loan.tensor_);
  return loan;
}

Loan Loan::of_bytes(py::handle lender, const std::string& what, Access access) {
  if (PyObject_CheckBuffer(lender.ptr()) == 0) {
    Loan loan = of_tensor(lender, what, access);
    const DLTensor& tensor = loan.tensor_;
    if (tensor.device.device_type != kDLCPU && tensor.device.device_type != kDLCUDAHost)
      raise(PENSTOCK_UNSUPPORTED, what + " lie on device type " +
                                      std::to_string(tensor.device.device_type) +
                                      " of DLPack; lend CPU or CUDA-pinned memory");
    std::int64_t expected = 1;
    for (int i = tensor.ndim - 1; i >= 0; --i) {
      if (tensor.strides != nullptr && tensor.shape[i] != 1 && tensor.strides[i] != expected)
        refuse(what + " are strided; lend a contiguous, row-major tensor");
      expected *= tensor.shape[i];
    }
    return loan;
  }
  auto view = std::make_unique<Py_buffer>();
  const int flags = access == Access::kWrite ? PyBUF_WRITABLE : PyBUF_SIMPLE;
  if (PyObject_GetBuffer(lender.ptr(), view.get(), flags) != 0) {
    const py::error_already_set error;
    refuse(what + " cannot be lent: " + std::string(py::str(error.value())));
  }
  Loan loan;
  loan.tensor_.data = view->buf;
  loan.tensor_.device.device_type = kDLCPU;
  loan.tensor_.dtype = {kDLUInt, 8, 1};
  loan.bytes_ = static_cast<std::size_t>(view->len);
  loan.owner_ = {view.release(), [](void* owned) {
                   auto* const held = static_cast<Py_buffer*>(owned);
                   PyBuffer_Release(held);
                   delete held;
                 }};
  return loan;
}

}  // namespace penstock::python
