// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What servers keep for a worker: the state of keys, publications.
#include <mutex>

#include "bindings/python/src/error.h"
#include "bindings/python/src/wait.h"
#include "bindings/python/src/worker.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

using StateHandle = std::unique_ptr<penstock_key_state, decltype(&penstock_key_state_destroy)>;

// Runs body(worker) without the GIL. What was lent to a call that failed stays lent until the
// worker's end: its lanes may still hold it.
template <class Body>
void lending(WorkerHandle& handle, Loan&& loan, const Body& body) {
  try {
    without_gil([&] {
      const std::shared_lock lock(handle.stopping);
      return body(handle.worker);
    });
  } catch (...) {
    handle.abandoned.push_back(std::move(loan));
    throw;
  }
}

}  // namespace

py::tuple Worker::read_state(std::uint64_t key, std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  const std::int64_t ms = timeout_ms(timeout_s, options_.timeout_ms());
  penstock_key_state* made = nullptr;
  without_gil([&] {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_read_state(handle->worker, key, ms, &made);
  });
  const StateHandle state(made, &penstock_key_state_destroy);
  py::list planes;
  for (std::size_t i = 0; i < penstock_key_state_count(made); ++i) {
    DLTensor plane;
    check(penstock_key_state_get(made, i, &plane));
    const std::size_t bytes = static_cast<std::size_t>(plane.shape[0]) * plane.dtype.bits / 8;
    planes.append(py::make_tuple(plane.dtype.bits == 32 ? "float32" : "bfloat16",
                                 py::bytearray(static_cast<const char*>(plane.data), bytes)));
  }
  return py::make_tuple(penstock_key_state_steps(made), planes);
}

void Worker::write_state(std::uint64_t key, std::uint64_t steps, const py::sequence& planes,
                         std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  const std::int64_t ms = timeout_ms(timeout_s, options_.timeout_ms());
  std::vector<Loan> loans;
  std::vector<DLTensor> given;
  for (std::size_t i = 0; i < planes.size(); ++i) {
    const std::string what = "key " + std::to_string(key) + ": plane " + std::to_string(i);
    loans.push_back(Loan::of_tensor(planes[i], what, Access::kRead));
    given.push_back(loans.back().tensor());
  }
  without_gil([&] {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_write_state(handle->worker, key, steps, given.data(), given.size(), ms);
  });
}

void Worker::publish(const std::string& name, std::uint64_t version, const py::object& tensor,
                     std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  const std::int64_t ms = timeout_ms(timeout_s, options_.timeout_ms());
  Loan loan = Loan::of_tensor(tensor, "publication " + name, Access::kRead);
  const DLTensor lent = loan.tensor();
  lending(*handle, std::move(loan), [&](penstock_worker* worker) {
    return penstock_worker_publish(worker, name.c_str(), version, &lent, ms);
  });
}

std::uint64_t Worker::fetch(const std::string& name, const py::object& into, std::uint64_t version,
                            std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  const std::int64_t ms = timeout_ms(timeout_s, options_.timeout_ms());
  Loan loan = Loan::of_tensor(into, "publication " + name, Access::kWrite);
  const DLTensor lent = loan.tensor();
  std::uint64_t found = 0;
  lending(*handle, std::move(loan), [&](penstock_worker* worker) {
    return penstock_worker_fetch(worker, name.c_str(), version, &lent, ms, &found);
  });
  return found;
}

void Worker::withdraw(const std::string& name, std::optional<double> timeout_s) {
  const std::shared_ptr<WorkerHandle> handle = open();
  const std::int64_t ms = timeout_ms(timeout_s, options_.timeout_ms());
  without_gil([&] {
    const std::shared_lock lock(handle->stopping);
    return penstock_worker_withdraw(handle->worker, name.c_str(), ms);
  });
}

}  // namespace penstock::python
